//! The kernel as a rival of the lookups (`role kernel-lookup ADMIN DIRECTORY
//! FAMILY`): RTM_GETROUTE for one address after the other, in the namespace of
//! the admin, who has loaded the table. It speaks as `bench/c/dpdk.c` tells.

use std::io::{BufRead, Write, stdin, stdout};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::harness::tally::SILENCE_MAX;
use crate::kernel::netlink::{Netlink, enter_namespace};
use crate::kernel::rtnetlink;
use crate::routes::{LINKS, NextHop};

/// Lookups between two looks at the clock.
const CHUNK: usize = 512;
/// Of a set so many are compared: the kernel takes two microseconds each.
const CHECKED: usize = 1 << 16;

pub(crate) fn run(admin: u32, directory: &Path, is_v6: bool) -> Result<()> {
    enter_namespace(admin)?;
    let socket = Netlink::open()?;
    socket.patience(SILENCE_MAX)?;
    let mut sets: Vec<(String, Vec<IpAddr>, Vec<u32>)> = Vec::new();
    println!("ready");
    for line in stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let name = words.get(1).context("no set")?;
        if !sets.iter().any(|set| set.0 == *name) {
            sets.push(read(directory, name, is_v6)?);
        }
        let (_, addresses, answers) =
            sets.iter().find(|set| set.0 == *name).context("no such set")?;
        match words[0] {
            "check" => {
                let wrong = addresses.iter().zip(answers).take(CHECKED).find_map(|pair| {
                    let found = hop(&socket, *pair.0);
                    (!matches!(&found, Ok(hop) if hop == pair.1))
                        .then(|| format!("{}: {found:?} instead of {}", pair.0, pair.1))
                });
                println!("{}", wrong.unwrap_or_else(|| "ok".to_owned()));
            }
            "single" => {
                let limit = Duration::from_millis(words.get(2).context("no time")?.parse()?);
                let (begun, mut lookups) = (Instant::now(), 0);
                for chunk in addresses.chunks_exact(CHUNK).cycle() {
                    for address in chunk {
                        hop(&socket, *address)?;
                    }
                    lookups += CHUNK;
                    if begun.elapsed() >= limit {
                        break;
                    }
                }
                println!("{lookups} {}", begun.elapsed().as_nanos());
            }
            _ => bail!("{line}: the kernel only looks up, one by one"),
        }
        stdout().flush()?;
    }
    Ok(())
}

fn read(directory: &Path, name: &str, is_v6: bool) -> Result<(String, Vec<IpAddr>, Vec<u32>)> {
    let addresses = std::fs::read(directory.join(format!("{name}.addresses")))?;
    let answers = std::fs::read(directory.join(format!("{name}.answers")))?;
    let addresses = if is_v6 {
        let address = |b: &[u8]| Ipv6Addr::from(<[u8; 16]>::try_from(b).expect("16 bytes")).into();
        addresses.chunks_exact(16).map(address).collect()
    } else {
        let number = |b: &[u8]| u32::from_le_bytes(b.try_into().expect("four bytes"));
        addresses.chunks_exact(4).map(|b| Ipv4Addr::from(number(b)).into()).collect()
    };
    let answer = |b: &[u8]| u32::from_le_bytes(b.try_into().expect("four bytes"));
    Ok((name.to_owned(), addresses, answers.chunks_exact(4).map(answer).collect()))
}

/// The number of the gateway's next hop; 0: no route of the table.
fn hop(socket: &Netlink, address: IpAddr) -> Result<u32> {
    let mut request = Vec::with_capacity(64);
    rtnetlink::push_lookup(&mut request, address);
    socket.send(&request)?;
    let mut buffer = [0; 4096];
    let length = socket.receive(&mut buffer)?;
    let message = rtnetlink::messages(&buffer[..length]).next().context("no answer")?;
    let Some(gateway) = message.gateway(address) else { return Ok(0) };
    let number = NextHop { gateway, link: 0 }.number().context("another gateway")?;
    Ok(1 + number / LINKS as u32)
}
