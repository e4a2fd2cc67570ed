//! What every bench shares: interleaved rounds, statistics, the machine's
//! description, processes with a start barrier, results on disk.
//!
//! Read [`rounds`] first: it is the only place that decides what runs when.

pub(crate) mod rounds;
pub(crate) mod stats;

pub(crate) mod clock;
pub(crate) mod ended;
pub(crate) mod machine;
pub(crate) mod results;
pub(crate) mod stamps;
pub(crate) mod tally;
pub(crate) mod worker;
