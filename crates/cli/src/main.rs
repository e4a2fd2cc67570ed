//! rtm
#![forbid(unsafe_code)]
#![allow(dead_code)]
mod commands;
mod failure;
mod help;
mod output;
fn main() {
    print!("{}", help::text(&std::env::args().skip(1).collect::<Vec<_>>()));
}
