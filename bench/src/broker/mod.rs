//! The rivals that fan messages out and know no routes: Redis pub/sub on a Unix
//! socket and NATS on loopback (it has no Unix socket), as Debian ships them.
//!
//! One 80-byte message a change. Limits on slow subscribers are lifted, so that
//! nobody is thrown out; persistence is off. The publisher writes everything
//! encoded beforehand without waiting for replies; the subscribers check each
//! message's frame and number and do nothing else.
//!
//! Read [`protocol`] first: it has all that differs between the two.

pub(crate) mod client;
pub(crate) mod protocol;
pub(crate) mod server;
