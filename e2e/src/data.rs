//! The real tables, with the next hops that the data's README lays down.

use std::io::{BufRead, BufReader};
use std::path::Path;

use flate2::read::MultiGzDecoder;

/// FNV-1a, 64 bits.
pub fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The gateway of a prefix by the rule in `data/README.md`.
pub fn gateway(prefix: &str) -> String {
    let step = fnv1a(prefix) % 200;
    if prefix.contains(':') {
        format!("2001:db8:ffff::{:x}", 1 + step)
    } else {
        format!("10.255.0.{}", 1 + step)
    }
}

/// The outgoing interface of a prefix by the rule in `data/README.md`.
pub fn oif(prefix: &str) -> String {
    format!("Ethernet{}", 1 + (fnv1a(prefix) / 200) % 32)
}

/// The lines of a gzip file.
pub fn lines(path: &Path) -> impl Iterator<Item = String> {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    BufReader::new(MultiGzDecoder::new(file)).lines().map(|line| line.expect("a gzip file of text"))
}

/// The update trace as batch lines: `replace` for an announcement, `del` for
/// a withdrawal, the OIF by the rule.
pub fn updates_as_batch(folder: &Path) -> String {
    let mut batch = String::new();
    for line in lines(&folder.join("updates.txt.gz")) {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, what, prefix, gateway] = words[..] else { panic!("not an update: {line}") };
        match what {
            "a" => batch += &format!("route replace {prefix} via {gateway} dev {}\n", oif(prefix)),
            "w" => batch += &format!("route del {prefix}\n"),
            _ => panic!("not an update: {line}"),
        }
    }
    batch
}
