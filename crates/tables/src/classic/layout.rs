//! The structures of `classic.sock`, in native byte order, as a C compiler of
//! this host lays them out. `rtm_classic.h` is the other side of this page; both
//! assert what stands here when they are compiled.
//!
//! ```text
//!  daemon to client, 72 bytes                client to daemon, 8 bytes
//!    0 | int op_code                           0 | int32_t op
//!    4 | char destination[16]                  4 | int32_t pid
//!   20 | char mask
//!   21 | char gateway_ip[16]
//!   37 | char oif[32]
//!   69 | padding 3
//! ```
//!
//! Texts end with a NUL, and what is behind it is zero; a gateway or an
//! interface that isn't there is empty.

use std::fmt::Write;
use std::net::Ipv4Addr;

use rtm_model::Mac;

/// Bytes of a structure that the daemon sends.
pub const CLASSIC_BYTES: usize = 72;

/// Bytes of a structure that a client sends.
pub const CLASSIC_CLIENT_BYTES: usize = 8;

const DESTINATION: usize = 4;
const MASK: usize = 20;
const GATEWAY: usize = 21;
const OIF: usize = 37;
const OIF_BYTES: usize = 32;

const _: () = {
    assert!(size_of::<std::ffi::c_int>() == 4 && align_of::<std::ffi::c_int>() == 4);
    assert!(GATEWAY == DESTINATION + 16 + 1 && OIF == GATEWAY + 16);
    assert!((OIF + OIF_BYTES).next_multiple_of(4) == CLASSIC_BYTES);
};

/// What a structure says: its `op_code`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub(crate) enum Op {
    Create = 0,
    Update = 1,
    Delete = 2,
    Synced = 3,
    Key = 4,
    KeyGone = 5,
}

/// One structure.
pub(crate) type Structure = [u8; CLASSIC_BYTES];

/// A row of the routing table; for a delete only its key counts.
pub(crate) fn route(prefix: (u32, u8), gateway: Option<Ipv4Addr>, oif: &str) -> Structure {
    let mut bytes = [0; CLASSIC_BYTES];
    put(&mut bytes[DESTINATION..MASK], format_args!("{}", Ipv4Addr::from(prefix.0)));
    bytes[MASK] = prefix.1;
    if let Some(gateway) = gateway {
        put(&mut bytes[GATEWAY..OIF], format_args!("{gateway}"));
    }
    put(&mut bytes[OIF..OIF + OIF_BYTES], format_args!("{oif}"));
    bytes
}

/// A key of the MAC table.
pub(crate) fn key(mac: Mac) -> Structure {
    let mut bytes = [0; CLASSIC_BYTES];
    put(&mut bytes[OIF..OIF + OIF_BYTES], format_args!("{mac}"));
    bytes
}

/// The same structure with this `op_code`.
pub(crate) fn with_op(mut structure: Structure, op: Op) -> Structure {
    structure[..DESTINATION].copy_from_slice(&(op as i32).to_ne_bytes());
    structure
}

/// Writes a text in front of at least one NUL; what doesn't fit is cut.
fn put(field: &mut [u8], text: std::fmt::Arguments<'_>) {
    struct Field<'a>(&'a mut [u8]);
    impl Write for Field<'_> {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            let count = text.len().min(self.0.len());
            let (front, rest) = std::mem::take(&mut self.0).split_at_mut(count);
            front.copy_from_slice(&text.as_bytes()[..count]);
            self.0 = rest;
            Ok(())
        }
    }
    let room = field.len() - 1;
    // Nothing that is written here can fail.
    let _ = Field(&mut field[..room]).write_fmt(text);
}

/// What a client says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ClientOp {
    /// It wants to be signalled at a whole flush; its pid as it sees itself.
    Register(i32),
    /// The last that it says.
    Goodbye,
}

impl ClientOp {
    /// Of a client's structure; the number that stands there if it is neither.
    pub(crate) fn decode(bytes: [u8; CLASSIC_CLIENT_BYTES]) -> Result<ClientOp, i32> {
        let [a, b, c, d, e, f, g, h] = bytes;
        match i32::from_ne_bytes([a, b, c, d]) {
            0 => Ok(ClientOp::Register(i32::from_ne_bytes([e, f, g, h]))),
            1 => Ok(ClientOp::Goodbye),
            other => Err(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_as_the_specification_lays_it_out() {
        let row = route((0x7a01_0101, 32), Some(Ipv4Addr::new(10, 1, 1, 1)), "Ethernet1");
        let row = with_op(row, Op::Update);
        assert_eq!(row[..4], 1_i32.to_ne_bytes());
        assert_eq!(&row[4..20], b"122.1.1.1\0\0\0\0\0\0\0");
        assert_eq!(row[20], 32);
        assert_eq!(&row[21..37], b"10.1.1.1\0\0\0\0\0\0\0\0");
        assert_eq!(&row[37..47], b"Ethernet1\0");
        assert_eq!(row[47..], [0; 25]);
    }

    #[test]
    fn the_longest_texts_end_with_a_nul() {
        let row = route((u32::MAX, 32), Some(Ipv4Addr::BROADCAST), "fifteen-letters");
        assert_eq!(&row[4..20], b"255.255.255.255\0");
        assert_eq!(&row[21..37], b"255.255.255.255\0");
        assert_eq!(&key(Mac([0xff; 6]))[37..55], b"ff:ff:ff:ff:ff:ff\0");
        let cut = route((0, 0), None, &"x".repeat(40));
        assert_eq!(&cut[37..69], [&[b'x'; 31][..], &[0]].concat());
    }

    #[test]
    fn nothing_but_the_two_is_taken() {
        let say = |op: i32, pid: i32| {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&op.to_ne_bytes());
            bytes[4..].copy_from_slice(&pid.to_ne_bytes());
            ClientOp::decode(bytes)
        };
        assert_eq!(say(0, 77), Ok(ClientOp::Register(77)));
        assert_eq!(say(1, -1), Ok(ClientOp::Goodbye));
        for op in [-1, 2, i32::MAX, i32::MIN] {
            assert_eq!(say(op, 77), Err(op));
        }
    }
}
