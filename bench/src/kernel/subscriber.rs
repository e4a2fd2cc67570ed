//! Kernel subscribers (`role kernel-count PID`) and late joiners
//! (`role kernel-join PID`), in the network namespace of the admin `PID`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail};

use super::netlink::{Inbox, Netlink, enter_namespace};
use super::rtnetlink::{
    self, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
};
use crate::harness::clock::now_ns;
use crate::harness::tally::{SILENCE_MAX, Tally};
use crate::harness::worker::{Order, Reply, serve};

/// Half of what the kernel makes of it: room for two gigabytes, more than a
/// million notifications need with all that the kernel counts for each.
const RECEIVE_BUFFER_BYTES: i32 = i32::MAX / 2;
/// The kernel puts up to 32 KiB of a dump into one datagram if it saw a buffer that large.
const DUMP_BUFFER_BYTES: usize = 64 * 1024;

/// Counts the notifications of the bench's routes.
pub(crate) fn count(admin: u32) -> Result<()> {
    enter_namespace(admin)?;
    let mut inbox = Inbox::new();
    serve(|order, say| {
        let Order::Arm(arm) = order else { bail!("a subscriber can only be armed") };
        let mut tally = Tally::new(&arm)?;
        // A new socket each time: what happened between two runs is not wanted.
        let socket = subscribe()?;
        say(Reply::Ready);
        while !tally.done() {
            match socket.receive_many(&mut inbox) {
                Ok(count) => {
                    let routes = inbox
                        .datagrams(count)
                        .flat_map(rtnetlink::messages)
                        .filter(|message| message.is_route())
                        .count();
                    if routes > 0 {
                        tally.add(routes as u64);
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => tally.overrun(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("receive notifications"),
            }
        }
        say(tally.reply(0));
        Ok(())
    })
}

/// Subscribes, then asks for the whole table, as any process does that starts
/// late; counts the routes of both families.
pub(crate) fn join(admin: u32) -> Result<()> {
    enter_namespace(admin)?;
    let mut buffer = vec![0; DUMP_BUFFER_BYTES];
    serve(|order, say| {
        let Order::Join = order else { bail!("a joiner can only join") };
        let begun_ns = now_ns();
        let socket = subscribe()?;
        let mut routes = 0;
        for family in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
            let mut request = Vec::new();
            rtnetlink::push_dump(&mut request, family);
            socket.send(&request)?;
            let mut done = false;
            while !done {
                let length = socket.receive(&mut buffer).context("receive the dump")?;
                for message in rtnetlink::messages(&buffer[..length]) {
                    match message.kind {
                        NLMSG_DONE => done = true,
                        NLMSG_ERROR => bail!("dump: errno {}", -message.error()),
                        _ => routes += u64::from(message.is_route()),
                    }
                    if message.flags & NLM_F_DUMP_INTR != 0 {
                        bail!("the dump was interrupted by a change");
                    }
                }
            }
        }
        say(Reply::Joined { routes, begun_ns, ended_ns: now_ns() });
        Ok(())
    })
}

fn subscribe() -> Result<Netlink> {
    let socket = Netlink::open()?;
    socket.force_buffers(RECEIVE_BUFFER_BYTES, 64 * 1024).context("SO_RCVBUFFORCE")?;
    socket.patience(SILENCE_MAX)?;
    socket.join(RTNLGRP_IPV4_ROUTE)?;
    socket.join(RTNLGRP_IPV6_ROUTE)?;
    Ok(socket)
}
