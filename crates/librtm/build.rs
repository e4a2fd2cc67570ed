//! Gives the shared library its soname: a plain cdylib has none, and programs
//! would then be linked to whatever file they found.

/// The number behind `librtm.so.`: grows when something in `rtm.h` changes
/// that a compiled program depends on.
const SONAME_VERSION: u32 = 0;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,librtm.so.{SONAME_VERSION}");
}
