//! rtmd
#![forbid(unsafe_code)]
#![allow(dead_code, unused_imports)] // The parts come before the whole.
mod args;
mod config;
mod histogram;
mod log;
mod roles;
mod runtime_dir;
mod systemd;
mod writer;
fn main() {}
