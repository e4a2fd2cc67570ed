//! Crates that look up longest prefixes, on the same table, addresses and
//! questions as `bench/c/dpdk.c` (there the protocol is told).
//!
//! `lookup-rivals KIND FAMILY DIRECTORY`, KIND: prefix-trie, iptrie, treebitmap,
//! poptrie; FAMILY: 4 or 6.
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{BufRead, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ip_network_table_deps_treebitmap::IpLookupTable;
use iptrie::map::{LCTrieMap, RTrieMap};
use iptrie::{Ipv4Prefix, Ipv6Prefix};
use poptrie::Poptrie;
use prefix_trie::PrefixMap;

/// Lookups between two looks at the clock.
const CHUNK: usize = 16_384;

/// Counts the bytes in use.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

trait Family: Copy + Eq + 'static {
    const BYTES: usize;
    fn read(bytes: &[u8]) -> Self;
}

impl Family for Ipv4Addr {
    const BYTES: usize = 4;

    fn read(bytes: &[u8]) -> Self {
        u32::from_le_bytes(bytes[..4].try_into().unwrap()).into()
    }
}

impl Family for Ipv6Addr {
    const BYTES: usize = 16;

    fn read(bytes: &[u8]) -> Self {
        <[u8; 16]>::try_from(&bytes[..16]).unwrap().into()
    }
}

/// A table under test; 0: no route.
trait Table<A>: Sized {
    fn new(routes: &[(A, u8, u32)]) -> Self;
    fn find(&self, address: A) -> u32;
    fn set(&mut self, route: (A, u8), hop: u32);
}

macro_rules! tables {
    ($address:ty, $net:ty, $prefix:ty) => {
        impl Table<$address> for PrefixMap<$net, u32> {
            fn new(routes: &[($address, u8, u32)]) -> Self {
                routes.iter().map(|&(a, l, hop)| (<$net>::new(a, l).unwrap(), hop)).collect()
            }

            #[inline(always)]
            fn find(&self, address: $address) -> u32 {
                self.get_lpm(&<$net>::from(address)).map_or(0, |found| *found.1)
            }

            fn set(&mut self, route: ($address, u8), hop: u32) {
                self.insert(<$net>::new(route.0, route.1).unwrap(), hop);
            }
        }

        impl Table<$address> for IpLookupTable<$address, u32> {
            fn new(routes: &[($address, u8, u32)]) -> Self {
                let mut table = IpLookupTable::with_capacity(routes.len());
                for &(address, length, hop) in routes {
                    table.insert(address, length.into(), hop);
                }
                table
            }

            #[inline(always)]
            fn find(&self, address: $address) -> u32 {
                self.longest_match(address).map_or(0, |found| *found.2)
            }

            fn set(&mut self, route: ($address, u8), hop: u32) {
                self.insert(route.0, route.1.into(), hop);
            }
        }

        /// The one that can be changed, and the compressed one that is searched.
        impl Table<$address> for Iptrie<$prefix> {
            fn new(routes: &[($address, u8, u32)]) -> Self {
                let mut changed = RTrieMap::with_root_and_capacity(0, routes.len());
                for &(address, length, hop) in routes {
                    changed.insert(<$prefix>::new(address, length).unwrap(), hop);
                }
                Iptrie { searched: changed.clone().compress(), changed: Some(changed) }
            }

            #[inline(always)]
            fn find(&self, address: $address) -> u32 {
                *self.searched.lookup(&address).1
            }

            fn set(&mut self, route: ($address, u8), hop: u32) {
                let prefix = <$prefix>::new(route.0, route.1).unwrap();
                self.changed.as_mut().unwrap().insert(prefix, hop);
            }
        }

        impl Table<$address> for Poptrie<($address, u8), u32> {
            fn new(routes: &[($address, u8, u32)]) -> Self {
                routes.iter().map(|&(address, length, hop)| ((address, length), hop)).collect()
            }

            #[inline(always)]
            fn find(&self, address: $address) -> u32 {
                self.lookup(address).copied().unwrap_or(0)
            }

            fn set(&mut self, route: ($address, u8), hop: u32) {
                self.insert(route, hop);
            }
        }
    };
}

struct Iptrie<P> {
    searched: LCTrieMap<P, u32>,
    changed: Option<RTrieMap<P, u32>>,
}

tables!(Ipv4Addr, ipnet::Ipv4Net, Ipv4Prefix);
tables!(Ipv6Addr, ipnet::Ipv6Net, Ipv6Prefix);

struct Set<A> {
    name: String,
    addresses: Vec<A>,
    answers: Vec<u32>,
}

fn slurp(directory: &Path, name: &str) -> Vec<u8> {
    let path = directory.join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn find<'a, A: Family>(sets: &'a mut Vec<Set<A>>, directory: &Path, name: &str) -> &'a Set<A> {
    let at = sets.iter().position(|set| set.name == name).unwrap_or_else(|| {
        let addresses = slurp(directory, &format!("{name}.addresses"));
        let answers = slurp(directory, &format!("{name}.answers"));
        sets.push(Set {
            name: name.to_owned(),
            addresses: addresses.chunks_exact(A::BYTES).map(A::read).collect(),
            answers: answers.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect(),
        });
        sets.len() - 1
    });
    &sets[at]
}

fn serve<A: Family, T: Table<A>>(directory: &Path) {
    let routes: Vec<(A, u8, u32)> = slurp(directory, "routes")
        .chunks_exact(24)
        .map(|row| {
            let number = |at: usize| u32::from_le_bytes(row[at..at + 4].try_into().unwrap());
            (A::read(row), number(16) as u8, number(20))
        })
        .collect();
    let before = BYTES.load(Ordering::Relaxed);
    let mut table = T::new(&routes);
    let bytes = BYTES.load(Ordering::Relaxed) - before;
    println!("ready");
    let mut sets: Vec<Set<A>> = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["check", name] => {
                let set = find(&mut sets, directory, name);
                let wrong = (set.addresses.iter().zip(&set.answers))
                    .position(|(address, answer)| table.find(*address) != *answer);
                match wrong {
                    None => println!("ok"),
                    Some(at) => println!("address {at}"),
                }
            }
            ["single", name, ms] => {
                let set = find(&mut sets, directory, name);
                let limit = Duration::from_millis(ms.parse().unwrap());
                let (begun, mut lookups, mut sum) = (Instant::now(), 0, 0_u64);
                for chunk in set.addresses.chunks_exact(CHUNK).cycle() {
                    sum += chunk.iter().map(|a| u64::from(table.find(*a))).sum::<u64>();
                    lookups += CHUNK;
                    if begun.elapsed() >= limit {
                        break;
                    }
                }
                std::hint::black_box(sum);
                println!("{lookups} {}", begun.elapsed().as_nanos());
            }
            ["change", count, seed] => {
                let mut seed: u64 = seed.parse().unwrap();
                let count: u64 = count.parse().unwrap();
                let begun = Instant::now();
                for _ in 0..count {
                    let route = routes[next(&mut seed) as usize % routes.len()];
                    table.set((route.0, route.1), 1 + (next(&mut seed) % 200) as u32);
                }
                println!("{count} {}", begun.elapsed().as_nanos());
            }
            ["bytes"] => println!("{bytes} 0"),
            _ => println!("what?"),
        }
        std::io::stdout().flush().unwrap();
    }
}

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let directory = Path::new(&arguments[3]);
    match (arguments[1].as_str(), arguments[2].as_str()) {
        ("prefix-trie", "4") => serve::<Ipv4Addr, PrefixMap<ipnet::Ipv4Net, u32>>(directory),
        ("prefix-trie", "6") => serve::<Ipv6Addr, PrefixMap<ipnet::Ipv6Net, u32>>(directory),
        ("iptrie", "4") => serve::<Ipv4Addr, Iptrie<Ipv4Prefix>>(directory),
        ("iptrie", "6") => serve::<Ipv6Addr, Iptrie<Ipv6Prefix>>(directory),
        ("treebitmap", "4") => serve::<Ipv4Addr, IpLookupTable<Ipv4Addr, u32>>(directory),
        ("treebitmap", "6") => serve::<Ipv6Addr, IpLookupTable<Ipv6Addr, u32>>(directory),
        ("poptrie", "4") => serve::<Ipv4Addr, Poptrie<(Ipv4Addr, u8), u32>>(directory),
        ("poptrie", "6") => serve::<Ipv6Addr, Poptrie<(Ipv6Addr, u8), u32>>(directory),
        (kind, family) => panic!("{kind} {family}"),
    }
}
