//! What is looked up, what is right, and both as files for the programs that
//! are no Rust of ours.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::changes::SplitMix;
use crate::routes::{LINKS, Route};

/// Addresses of a set: with two megabytes for IPv4, more than the caches next to
/// a processor hold of what is found by them.
const ADDRESSES: usize = 1 << 19;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    fn bits(self) -> u32 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// A prefix as a number of the family's bits, its length, its next hop: 1 to 200.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) first: u128,
    pub(crate) length: u8,
    pub(crate) hop: u32,
}

impl Line {
    fn rest(self, family: Family) -> u128 {
        (u128::MAX >> (128 - family.bits())).checked_shr(self.length.into()).unwrap_or(0)
    }
}

/// The table's routes of a family.
pub(crate) fn lines(family: Family, routes: &[Route]) -> Vec<Line> {
    routes
        .iter()
        .filter(|route| route.prefix.address.is_ipv4() == (family == Family::V4))
        .map(|route| Line {
            first: match route.prefix.address {
                IpAddr::V4(address) => address.to_bits().into(),
                IpAddr::V6(address) => address.to_bits(),
            },
            length: route.prefix.length,
            hop: 1 + route.next_hop.number().expect("a gateway of the rule") / LINKS as u32,
        })
        .collect()
}

/// One set of addresses with the answers; 0: no route.
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) addresses: Vec<u128>,
    pub(crate) answers: Vec<u32>,
}

/// Random addresses; random ones inside random prefixes; the same with prefixes
/// by Zipf's law (exponent 1, in a random order).
pub(crate) fn sets(family: Family, lines: &[Line]) -> Vec<Set> {
    let mut random = SplitMix(7);
    let mut wide = || {
        let wide = u128::from(random.next()) << 64 | u128::from(random.next());
        wide >> (128 - family.bits())
    };
    let inside = |line: Line, random: u128| line.first | random & line.rest(family);
    let anywhere = (0..ADDRESSES).map(|_| wide()).collect();
    let even = (0..ADDRESSES)
        .map(|_| {
            let line = lines[wide() as u32 as usize % lines.len()];
            inside(line, wide())
        })
        .collect();
    let mut shuffled = lines.to_vec();
    for index in (1..shuffled.len()).rev() {
        shuffled.swap(index, wide() as u32 as usize % (index + 1));
    }
    let zipf = (0..ADDRESSES)
        .map(|_| {
            let share = f64::from(wide() as u32) / 2.0_f64.powi(32);
            let rank = (lines.len() as f64).powf(share) as usize;
            inside(shuffled[rank.clamp(1, lines.len()) - 1], wide())
        })
        .collect();
    let intervals = intervals(family, lines);
    let set = |name, what, addresses: Vec<u128>| {
        let answer = |address: &u128| {
            let at = intervals.partition_point(|interval| interval.0 <= *address);
            intervals[at - 1].1
        };
        let answers = addresses.iter().map(answer).collect();
        Set { name, what, addresses, answers }
    };
    vec![
        set("random", "random addresses", anywhere),
        set("inside", "random inside prefixes", even),
        set("zipf", "Zipf over prefixes", zipf),
    ]
}

/// The oracle: the address space cut where the answer changes, by the prefixes in
/// order and the ones around them on a stack.
fn intervals(family: Family, lines: &[Line]) -> Vec<(u128, u32)> {
    let mut sorted = lines.to_vec();
    sorted.sort_by_key(|line| (line.first, line.length));
    let mut cuts = vec![(0, 0)];
    let mut around: Vec<(u128, u32)> = Vec::new();
    let close = |around: &mut Vec<(u128, u32)>, cuts: &mut Vec<(u128, u32)>, before: u128| {
        while around.last().is_some_and(|(last, _)| *last < before) {
            let (last, _) = around.pop().expect("looked at");
            cuts.push((last + 1, around.last().map_or(0, |outer| outer.1)));
        }
    };
    for line in sorted {
        close(&mut around, &mut cuts, line.first);
        cuts.push((line.first, line.hop));
        around.push((line.first | line.rest(family), line.hop));
    }
    // The last address of all ends no interval that another begins behind.
    close(&mut around, &mut cuts, u128::MAX >> (128 - family.bits()));
    // Of cuts at the same address the last one made is right.
    cuts
}

/// Writes everything into a directory of its own, as `bench/c/dpdk.c` reads it.
pub(crate) fn write(
    directory: &Path,
    family: Family,
    lines: &[Line],
    sets: &[Set],
) -> Result<PathBuf> {
    let directory = directory.join(family.name());
    fs::create_dir_all(&directory)?;
    let address = |address: u128| match family {
        Family::V4 => (address as u32).to_le_bytes().to_vec(),
        Family::V6 => address.to_be_bytes().to_vec(),
    };
    let mut bytes = Vec::with_capacity(lines.len() * 24);
    for line in lines {
        let mut row = address(line.first);
        row.resize(16, 0);
        bytes.extend(row);
        bytes.extend(u32::from(line.length).to_le_bytes());
        bytes.extend(line.hop.to_le_bytes());
    }
    fs::write(directory.join("routes"), bytes)?;
    for set in sets {
        let addresses: Vec<u8> = set.addresses.iter().flat_map(|a| address(*a)).collect();
        fs::write(directory.join(format!("{}.addresses", set.name)), addresses)?;
        let answers: Vec<u8> = set.answers.iter().flat_map(|a| a.to_le_bytes()).collect();
        fs::write(directory.join(format!("{}.answers", set.name)), answers)?;
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest prefix by looking at each.
    fn slow(family: Family, lines: &[Line], address: u128) -> u32 {
        let around = lines.iter().filter(|l| address & !l.rest(family) == l.first);
        around.max_by_key(|line| line.length).map_or(0, |line| line.hop)
    }

    #[test]
    fn the_oracle_is_right() {
        for family in [Family::V4, Family::V6] {
            let mut random = SplitMix(3);
            let lines: Vec<Line> = (0..300)
                .map(|n| {
                    let length = 1 + (random.next() % u64::from(family.bits())) as u8;
                    let mut line = Line { first: 0, length, hop: 1 + n };
                    let wide = u128::from(random.next() & random.next()) << 64;
                    line.first = wide >> (128 - family.bits()) & !line.rest(family);
                    line
                })
                .collect();
            // Each prefix once, as in a table.
            let mut lines = lines;
            lines.sort_by_key(|line| (line.first, line.length));
            lines.dedup_by_key(|line| (line.first, line.length));
            for set in sets(family, &lines) {
                for (address, answer) in set.addresses.iter().zip(&set.answers).take(2_000) {
                    assert_eq!(slow(family, &lines, *address), *answer, "{address:x}");
                }
            }
        }
    }
}
