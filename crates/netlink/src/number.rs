//! The kernel's numbers that more than one module needs (linux/rtnetlink.h,
//! linux/neighbour.h, linux/if.h).
#![allow(missing_docs)] // Their names are the kernel's.

pub const RTA_DST: u16 = 1;
pub const RTA_SRC: u16 = 2;
pub const RTA_IIF: u16 = 3;
pub const RTA_OIF: u16 = 4;
pub const RTA_GATEWAY: u16 = 5;
pub const RTA_PRIORITY: u16 = 6;
pub const RTA_PREFSRC: u16 = 7;
pub const RTA_METRICS: u16 = 8;
pub const RTA_MULTIPATH: u16 = 9;
pub const RTA_CACHEINFO: u16 = 12;
pub const RTA_TABLE: u16 = 15;
pub const RTA_MFC_STATS: u16 = 17;
pub const RTA_VIA: u16 = 18;
pub const RTA_PREF: u16 = 20;
pub const RTA_ENCAP_TYPE: u16 = 21;
pub const RTA_ENCAP: u16 = 22;
pub const RTA_EXPIRES: u16 = 23;
pub const RTA_PAD: u16 = 24;
pub const RTA_NH_ID: u16 = 30;

/// The route is a cached copy of another.
pub const RTM_F_CLONED: u32 = 0x200;
pub const RTM_F_EQUALIZE: u32 = 0x400;
pub const RTM_F_PREFIX: u32 = 0x800;
/// In a request: answer with the route as the table has it.
pub const RTM_F_FIB_MATCH: u32 = 0x2000;
pub const RTM_F_LOOKUP_TABLE: u32 = 0x1000;

/// Stands in `rtm_table` where the number needs `RTA_TABLE`.
pub const RT_TABLE_COMPAT: u8 = 252;

/// Multicast groups (`RTNLGRP_`).
pub const GROUP_LINK: u32 = 1;
pub const GROUP_NEIGH: u32 = 3;
pub const GROUP_IPV4_IFADDR: u32 = 5;
pub const GROUP_IPV4_ROUTE: u32 = 7;
pub const GROUP_IPV6_IFADDR: u32 = 9;
pub const GROUP_IPV6_ROUTE: u32 = 11;
pub const GROUP_NEXTHOP: u32 = 32;

pub const IFF_UP: u32 = 0x1;
pub const IFF_LOOPBACK: u32 = 0x8;
pub const IFF_RUNNING: u32 = 0x40;
pub const IFF_LOWER_UP: u32 = 0x10000;

/// `NTF_PROXY`.
pub const NTF_PROXY: u8 = 0x08;
