//! The rival that everybody has: the kernel's own table, in a network
//! namespace that lives and dies with its admin process, written to and
//! followed over raw rtnetlink.
//!
//! Nothing is held back from it. Its messages are encoded before the clock
//! starts; many of them go into one `sendmsg`, with one acknowledgement each
//! batch; its subscribers take many notifications with one `recvmmsg`, only
//! count them, and have receive buffers in which nothing is lost.
//!
//! Read [`admin`] first.

pub(crate) mod admin;
pub(crate) mod subscriber;

pub(crate) mod netlink;
pub(crate) mod rtnetlink;
