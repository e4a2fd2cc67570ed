//! Next-hop groups: one or several next hops that routes share by id.

use std::net::IpAddr;

use crate::link::LinkId;

/// A group's id in one epoch. 0 ([`GroupId::NONE`]) is no group: the route
/// has no next hop (`blackhole`, `unreachable`, …).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct GroupId(pub u32);

impl GroupId {
    /// No next hop.
    pub const NONE: GroupId = GroupId(0);
}

/// Flags of one next hop: the kernel's `RTNH_F_` bits (rtnetlink.h) that mean
/// something to us.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct HopFlags(pub u8);

impl HopFlags {
    /// The next hop is dead: no traffic goes there (`RTNH_F_DEAD`).
    pub const DEAD: HopFlags = HopFlags(1);
    /// The gateway is reachable on the link though no prefix says so
    /// (`RTNH_F_ONLINK`).
    pub const ONLINK: HopFlags = HopFlags(4);
    /// The link has no carrier (`RTNH_F_LINKDOWN`).
    pub const LINKDOWN: HopFlags = HopFlags(16);
    /// Every bit that may be set.
    pub const ALL: HopFlags = HopFlags(1 | 4 | 16);

    /// Are all of `flags` set?
    pub fn contains(self, flags: HopFlags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These and `flags`.
    #[must_use]
    pub fn with(self, flags: HopFlags) -> HopFlags {
        HopFlags(self.0 | flags.0)
    }
}

/// One next hop: a gateway, a link, or both.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NextHop {
    /// The gateway; of either family (an IPv4 route can go via IPv6, RFC 5549).
    pub gateway: Option<IpAddr>,
    /// The outgoing interface.
    pub link: Option<LinkId>,
    /// 1 to 256: the share of flows that goes this way.
    pub weight: u16,
    /// Onlink, dead, linkdown.
    pub flags: HopFlags,
}

/// The largest weight (`rtnh_hops` is a byte and stands for weight - 1).
pub const WEIGHT_MAX: u16 = 256;

/// The most next hops in a group: what keeps a group's record under 16 KiB,
/// so that a session's output buffer holds several. (The kernel's own groups
/// end at a message's 64 KiB.)
pub const HOPS_MAX: usize = 512;

/// A next-hop group.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Group {
    /// What routes refer to.
    pub id: GroupId,
    /// The number of the kernel's next-hop object or the FPM group this is;
    /// 0: none, the group is just its set of next hops and never changes.
    pub nhid: u32,
    /// The next hops, in the order in which they were given; at least one.
    pub hops: Vec<NextHop>,
}
