//! What the end-to-end tests share: the real binaries, fresh directories, the
//! real data, and the word for a test that could not run.
//!
//! Every process that a test starts is a [`Process`], which is killed by its
//! own pid when it goes out of scope; every file lies in a directory of the
//! test's own.

pub mod daemon;
pub mod data;
pub mod memory_group;
pub mod mirror;
pub mod namespace;
pub mod process;
pub mod raw;
pub mod require;
pub mod script;

pub use daemon::{Daemon, QueueName};
pub use memory_group::MemoryGroup;
pub use namespace::Namespace;
pub use process::{Output, Process, binary, copy_of};
