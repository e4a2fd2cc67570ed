//! Neighbours: the ARP (IPv4) and NDP (IPv6) table.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::link::LinkId;

/// A 48-bit link-layer address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

/// Not six hexadecimal octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MacError;

impl fmt::Display for MacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a MAC address; like 02:00:00:00:00:01")
    }
}

impl std::error::Error for MacError {}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(s: &str) -> Result<Mac, MacError> {
        let mut octets = [0; 6];
        let mut parts = s.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or(MacError)?;
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(MacError);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| MacError)?;
        }
        if parts.next().is_some() {
            return Err(MacError);
        }
        Ok(Mac(octets))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Made on the stack: listings print many.
        let mut text = *b"00:00:00:00:00:00";
        for (octet, out) in self.0.into_iter().zip(text.chunks_mut(3)) {
            out[0] = b"0123456789abcdef"[usize::from(octet >> 4)];
            out[1] = b"0123456789abcdef"[usize::from(octet & 15)];
        }
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Neighbour unreachability detection: the kernel's `NUD_` bits
/// (linux/neighbour.h). Usually one bit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct NudState(pub u16);

impl NudState {
    /// No state.
    pub const NONE: NudState = NudState(0);
    /// Asked, no answer yet.
    pub const INCOMPLETE: NudState = NudState(0x01);
    /// Confirmed lately.
    pub const REACHABLE: NudState = NudState(0x02);
    /// Not confirmed for a while.
    pub const STALE: NudState = NudState(0x04);
    /// About to be probed.
    pub const DELAY: NudState = NudState(0x08);
    /// Being probed.
    pub const PROBE: NudState = NudState(0x10);
    /// No answer.
    pub const FAILED: NudState = NudState(0x20);
    /// Needs no resolution.
    pub const NOARP: NudState = NudState(0x40);
    /// Entered by hand; stays.
    pub const PERMANENT: NudState = NudState(0x80);

    /// Names in the order in which `ip neigh` prints them.
    pub const NAMES: [(NudState, &'static str); 8] = [
        (NudState::INCOMPLETE, "INCOMPLETE"),
        (NudState::REACHABLE, "REACHABLE"),
        (NudState::STALE, "STALE"),
        (NudState::DELAY, "DELAY"),
        (NudState::PROBE, "PROBE"),
        (NudState::FAILED, "FAILED"),
        (NudState::NOARP, "NOARP"),
        (NudState::PERMANENT, "PERMANENT"),
    ];
}

/// A neighbour's key: its address on a link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NeighbourKey {
    /// The IP address.
    pub ip: IpAddr,
    /// The link; may be absent for an entry made by hand.
    pub link: Option<LinkId>,
}

/// What is known of a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NeighbourValue {
    /// The link-layer address, if it is known.
    pub mac: Option<Mac>,
    /// Its state.
    pub state: NudState,
    /// The kernel's `NTF_` bits: `router`, `extern_learn`, ….
    pub flags: u8,
    /// Who made it (`NDA_PROTOCOL`, numbered as `rtm_protocol`); 0: not said.
    pub protocol: u8,
}

/// A neighbour: key and value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Neighbour {
    /// Which.
    pub key: NeighbourKey,
    /// What.
    pub value: NeighbourValue,
}
