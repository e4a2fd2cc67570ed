//! ipc
fn main() {}
