//! Both ends of a connection, without a socket and without a clock.
//!
//! [`ServerSession`] is the daemon's end, [`ClientSession`] the client's. Each
//! is given the bytes that came and the time, and gives the bytes to send and
//! the events to act on; who owns the socket moves the bytes. So both ends run
//! in one process, in a test, in virtual time, cut at any byte.
//!
//! ```text
//!  client                                   daemon
//!    HELLO, SUBSCRIBE from -->
//!                           <-- WELCOME
//!                           <-- BEGIN from, SET, DELETE ..., END revision, digests     catching up, snapshot
//!                           <-- SET ... LAST, SET LAST, MARK revision, digests         live
//!    ACK revision, agrees   -->                                                        where a mark asked
//!    REQUEST id, line       -->
//!                           <-- ITEM id ..., DONE id, code
//!    LOAD id, CHANGE ..., LOAD_END -->
//!                           <-- DONE id, counts
//!    GOODBYE                -->             (either side; then the connection is closed)
//! ```

mod classic;
mod client;
mod follow;
mod info;
mod input;
mod output;
mod server;

pub use client::{
    ClientConfig, ClientEvent, ClientSession, ClientTimeout, Compare, Progress, RECEIVE_BYTES,
};
pub(crate) use info::Owner;
pub use info::{HubLimits, Peer, ServerEvent, SessionInfo, SessionState, SignalInfo, Transport};
pub use input::CHANGES_AT_ONCE;
pub use output::{SLICES_MAX, Slices};
pub use server::{INPUT_BYTES_MAX, ServerSession};
