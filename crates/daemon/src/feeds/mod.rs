//! Feeds beside the connections: where changes come from without a session.
//!
//! Each is a descriptor in the one loop, read within a budget in the stage
//! `feeds`, and bounded: what it can't take yet stays in the kernel, where the
//! sender's own call waits or fails.

pub(crate) mod commands;
pub(crate) mod export;
pub(crate) mod fifo;
pub(crate) mod fpm;
pub(crate) mod kernel;
pub(crate) mod queue;
mod sockets;
