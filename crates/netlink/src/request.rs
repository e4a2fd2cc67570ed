//! Requests for dumps, as strict checking (`NETLINK_GET_STRICT_CHK`) wants
//! them: without it a filter is ignored.

use crate::builder::Builder;
use crate::message::{flag, kind};
use crate::number::{RTA_OIF, RTA_TABLE};

const IFLA_EXT_MASK: u16 = 29;
/// `RTEXT_FILTER_SKIP_STATS`: links without their counters.
const SKIP_STATS: u32 = 1 << 3;

/// Which routes to dump.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RouteFilter {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// Only this table; 0: all.
    pub table: u32,
    /// Only this protocol; 0: all.
    pub protocol: u8,
    /// Only those with a next hop over this link; 0: all.
    pub ifindex: u32,
}

/// Asks for routes.
pub fn request_routes(out: &mut Builder, sequence: u32, filter: &RouteFilter) {
    let fixed = [filter.family, 0, 0, 0, 0, filter.protocol, 0, 0, 0, 0, 0, 0];
    out.begin(kind::GETROUTE, flag::REQUEST | flag::DUMP, sequence, &fixed);
    if filter.table != 0 {
        out.u32(RTA_TABLE, filter.table);
    }
    if filter.ifindex != 0 {
        out.u32(RTA_OIF, filter.ifindex);
    }
    out.end();
}

/// Asks for the neighbours of a family.
pub fn request_neighbours(out: &mut Builder, sequence: u32, family: u8) {
    let fixed = [family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    out.begin(kind::GETNEIGH, flag::REQUEST | flag::DUMP, sequence, &fixed);
    out.end();
}

/// Asks for everything of a kind: links, next-hop objects, addresses.
pub fn request_dump(out: &mut Builder, sequence: u32, what: u16) {
    match what {
        kind::GETLINK => {
            out.begin(what, flag::REQUEST | flag::DUMP, sequence, &[0; 16]);
            out.u32(IFLA_EXT_MASK, SKIP_STATS);
        }
        _ => out.begin(what, flag::REQUEST | flag::DUMP, sequence, &[0; 8]),
    }
    out.end();
}
