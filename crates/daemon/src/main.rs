//! rtmd
fn main() {}
