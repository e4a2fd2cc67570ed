//! This host's links: names of numbers and numbers of names.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rtm_model::LinkName;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

/// Asks the kernel once for each link.
#[derive(Default)]
pub(crate) struct HostLinks {
    socket: Option<OwnedFd>,
    names: HashMap<u32, Option<LinkName>>,
    numbers: HashMap<LinkName, Option<u32>>,
}

impl HostLinks {
    /// The name of the link with this number.
    pub(crate) fn name(&mut self, index: u32) -> Option<LinkName> {
        if let Some(known) = self.names.get(&index) {
            return *known;
        }
        let socket = self.socket()?;
        let name = netdevice::index_to_name(socket, index).ok();
        let name = name.and_then(|name| name.parse().ok());
        *self.names.entry(index).or_insert(name)
    }

    /// The number of the link with this name.
    pub(crate) fn number(&mut self, name: LinkName) -> Option<u32> {
        if let Some(known) = self.numbers.get(&name) {
            return *known;
        }
        let socket = self.socket()?;
        let number = netdevice::name_to_index(socket, name.as_str()).ok();
        *self.numbers.entry(name).or_insert(number)
    }

    /// Any socket will do for asking.
    fn socket(&mut self) -> Option<&OwnedFd> {
        if self.socket.is_none() {
            let kind = (AddressFamily::UNIX, SocketType::DGRAM);
            self.socket = socket_with(kind.0, kind.1, SocketFlags::CLOEXEC, None).ok();
        }
        self.socket.as_ref()
    }
}
