//! What the end-to-end tests share: the real binaries, fresh directories, the
//! real data, and the word for a test that could not run.
//!
//! Every process that a test starts is a [`Process`], which is killed by its
//! own pid when it goes out of scope; every file lies in a directory of the
//! test's own.

pub mod daemon;
pub mod data;
pub mod mirror;
pub mod namespace;
pub mod process;
pub mod raw;
pub mod require;

pub use daemon::Daemon;
pub use namespace::Namespace;
pub use process::{Output, Process, binary, copy_of};
