//! tables
#![forbid(unsafe_code)]

mod record;
pub use record::{Epoch, Flush, Record, RecordOp, RecordSink, Revision};

pub mod wire;
