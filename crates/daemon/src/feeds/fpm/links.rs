//! Names of links by their numbers.
//!
//! A peer on this host means this host's links; one from elsewhere means its
//! own, of which we know the number only: `if3`. A name is asked for once a
//! turn, so a renamed link is known by its new name from then on.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rtm_model::{HopSpec, Hops, LinkName, LinkRef};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

/// This host's links.
#[derive(Default)]
pub(crate) struct Links {
    socket: Option<OwnedFd>,
    known: HashMap<u32, Option<LinkName>>,
}

impl Links {
    /// A turn begins: what is known may have changed.
    pub(super) fn begin_turn(&mut self) {
        self.known.clear();
    }

    /// The name of this host's link with this number.
    pub(crate) fn name(&mut self, index: u32) -> Option<LinkName> {
        if let Some(known) = self.known.get(&index) {
            return *known;
        }
        if self.socket.is_none() {
            // Any socket will do for asking.
            let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
            self.socket = socket_with(family, kind, SocketFlags::CLOEXEC, None).ok();
        }
        let name = netdevice::index_to_name(self.socket.as_ref()?, index).ok();
        let name = name.and_then(|name| name.parse().ok());
        *self.known.entry(index).or_insert(name)
    }

    /// Names the link of a next hop.
    pub(super) fn name_hop(&mut self, hop: &mut HopSpec, same_host: bool) {
        if let Some(LinkRef::Ifindex(index)) = hop.link {
            let name = if same_host { self.name(index) } else { None };
            hop.link = name.or_else(|| format!("if{index}").parse().ok()).map(LinkRef::Name);
        }
    }

    /// Names the links of all next hops.
    pub(super) fn name_hops(&mut self, hops: &mut Hops, same_host: bool) {
        match hops {
            Hops::None | Hops::Named(_) => {}
            Hops::One(hop) => self.name_hop(hop, same_host),
            Hops::Many(hops) => {
                for hop in hops {
                    self.name_hop(hop, same_host);
                }
            }
        }
    }
}
