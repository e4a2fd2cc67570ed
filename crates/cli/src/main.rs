//! rtm
fn main() {}
