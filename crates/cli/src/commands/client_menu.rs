//! The menu of `rtm client`.
//!
//! Lines are read as they come, without a line editor, so that following goes
//! on meanwhile. A prompt also takes the grammar: such a line goes to the
//! daemon, as the command would. End of input is as good as 0.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use rtm_client::{Busy, Follower, RouteCursor};
use rtm_model::text::{
    Bytes, Command, Context, neighbour_menu_heading, neighbour_menu_row, parse_line,
    route_menu_heading, route_menu_row,
};
use rtm_model::{Mac, NeighbourKey, TABLE_MAIN, parse_address};

use super::{client, client_mapped, route_get};
use crate::env::Env;
use crate::failure::{Failure, Result};
use crate::mapped::{ImageNames, busy};
use crate::output::Out;
use crate::run;

const MENU: &str = "
1 show routing table
2 show MAC table
3 look up an address
4 verify
5 status
0 quit
";

/// The longest line that is taken; more without a line feed is not a person.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// What the user wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    Stay,
    Quit,
}

/// What the next line answers.
enum Prompt {
    Menu,
    Address,
    /// A table is shown up to here.
    Routes(RouteCursor),
    Neighbours(Option<NeighbourKey>),
    /// Of the image so many rows are shown.
    MappedRoutes(usize),
    MappedNeighbours(usize),
    /// Keys are shown up to this one.
    Keys(Mac),
}

pub(super) struct Menu {
    prompt: Prompt,
    /// Bytes of a line that isn't finished.
    partial: Vec<u8>,
    lines: VecDeque<String>,
    ended: bool,
    terminal: bool,
}

impl Menu {
    pub(super) fn new(out: &Out) -> Menu {
        Menu {
            prompt: Prompt::Menu,
            partial: Vec::new(),
            lines: VecDeque::new(),
            ended: false,
            terminal: out.is_terminal(),
        }
    }

    /// Prints the menu and the prompt.
    pub(super) fn show(&mut self, out: &mut Out) -> Result<()> {
        self.prompt = Prompt::Menu;
        out.text(MENU)?;
        out.text("> ")?;
        Ok(out.flush()?)
    }

    /// Standard input is ready: takes what is there.
    pub(super) fn ready(&mut self, env: &mut Env<'_>, follower: &Follower) -> Result<Wish> {
        self.read();
        while let Some(line) = self.lines.pop_front() {
            let wish = self.line(env, follower, line.trim())?;
            env.out.flush()?;
            if wish == Wish::Quit {
                return Ok(wish);
            }
        }
        Ok(if self.ended { Wish::Quit } else { Wish::Stay })
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        let count = loop {
            match rustix::io::read(io::stdin().as_fd(), &mut buffer) {
                Ok(count) => break count,
                Err(rustix::io::Errno::INTR) => {}
                // Nothing there after all; or a terminal that is gone.
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => break 0,
            }
        };
        self.ended = count == 0 || self.partial.len() > LINE_BYTES_MAX;
        self.partial.extend_from_slice(&buffer[..count]);
        while let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.lines.push_back(String::from_utf8_lossy(&line).into_owned());
        }
        if self.ended && !self.partial.is_empty() {
            let rest = std::mem::take(&mut self.partial);
            self.lines.push_back(String::from_utf8_lossy(&rest).into_owned());
        }
    }

    fn line(&mut self, env: &mut Env<'_>, follower: &Follower, line: &str) -> Result<Wish> {
        match std::mem::replace(&mut self.prompt, Prompt::Menu) {
            Prompt::Menu => match self.entry(env, follower, line) {
                Ok(Wish::Quit) => return Ok(Wish::Quit),
                Ok(Wish::Stay) => {}
                // Nobody reads the menu any more.
                Err(Failure::ClosedPipe) => return Err(Failure::ClosedPipe),
                Err(Failure::Said { line, .. }) => env.out.line(format_args!("rtm: {line}"))?,
                Err(Failure::Quiet(_)) => {}
            },
            Prompt::Address => look_up(env, follower, line)?,
            Prompt::Routes(_)
            | Prompt::Neighbours(_)
            | Prompt::MappedRoutes(_)
            | Prompt::MappedNeighbours(_)
            | Prompt::Keys(_)
                if line == "q" => {}
            Prompt::MappedRoutes(shown) => self.mapped_routes(env, follower, shown)?,
            Prompt::MappedNeighbours(shown) => self.mapped_neighbours(env, follower, shown)?,
            Prompt::Keys(from) => self.keys(env, follower, from)?,
            Prompt::Routes(cursor) => self.routes(env, follower, cursor)?,
            Prompt::Neighbours(after) => self.neighbours(env, follower, after)?,
        }
        if matches!(self.prompt, Prompt::Menu) {
            self.show(&mut env.out)?;
        }
        Ok(Wish::Stay)
    }

    /// An entry of the menu.
    fn entry(&mut self, env: &mut Env<'_>, follower: &Follower, line: &str) -> Result<Wish> {
        let (number, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match number {
            "" => {}
            "0" | "q" | "quit" | "exit" => return Ok(Wish::Quit),
            "1" => {
                route_menu_heading(&mut env.out.buffer()).map_err(io::Error::other)?;
                match follower.replica() {
                    Some(_) => self.routes(env, follower, RouteCursor::all())?,
                    None => self.mapped_routes(env, follower, 0)?,
                }
            }
            "2" => {
                neighbour_menu_heading(&mut env.out.buffer()).map_err(io::Error::other)?;
                match (follower.replica(), follower.image()) {
                    (Some(_), Some(_)) => self.keys(env, follower, Mac([0; 6]))?,
                    (Some(_), None) => self.neighbours(env, follower, None)?,
                    (None, _) => self.mapped_neighbours(env, follower, 0)?,
                }
            }
            "3" if rest.is_empty() => {
                self.prompt = Prompt::Address;
                env.out.text("address: ")?;
            }
            "3" => look_up(env, follower, rest.trim())?,
            "4" => {
                match follower.replica() {
                    Some(_) => client::verify(env, follower)?,
                    None => client_mapped::verify(env, follower)?,
                }
                env.out.line("equal: recomputed, and as the daemon has them")?;
            }
            "5" => status(env, follower)?,
            _ => grammar(env, line)?,
        }
        Ok(Wish::Stay)
    }

    /// How many rows to print before asking.
    fn page(&self) -> usize {
        if !self.terminal {
            return usize::MAX;
        }
        let size = rustix::termios::tcgetwinsize(io::stdout());
        let rows = size.map_or(0, |size| usize::from(size.ws_row));
        if rows == 0 { usize::MAX } else { rows.saturating_sub(3).max(1) }
    }

    fn routes(
        &mut self,
        env: &mut Env<'_>,
        follower: &Follower,
        mut cursor: RouteCursor,
    ) -> Result<()> {
        let Some(replica) = follower.replica() else { return Ok(()) };
        let store = replica.store();
        for _ in 0..self.page() {
            let Some(route) = store.next_route(&mut cursor) else { return stale(env, follower) };
            let mut buffer = env.out.buffer();
            route_menu_row(&mut buffer, &route.key, &route.value, store)
                .map_err(io::Error::other)?;
            env.out.spill()?;
        }
        self.prompt = Prompt::Routes(cursor);
        Ok(env.out.text("-- Enter: more, q: back -- ")?)
    }

    fn neighbours(
        &mut self,
        env: &mut Env<'_>,
        follower: &Follower,
        mut after: Option<NeighbourKey>,
    ) -> Result<()> {
        let Some(replica) = follower.replica() else { return Ok(()) };
        let store = replica.store();
        for _ in 0..self.page() {
            let Some(neighbour) = store.next_neighbour(after.as_ref()) else {
                return stale(env, follower);
            };
            let mut buffer = env.out.buffer();
            neighbour_menu_row(&mut buffer, &neighbour.key, &neighbour.value, store)
                .map_err(io::Error::other)?;
            env.out.spill()?;
            after = Some(neighbour.key);
        }
        self.prompt = Prompt::Neighbours(after);
        Ok(env.out.text("-- Enter: more, q: back -- ")?)
    }
}

/// Out of the image.
impl Menu {
    fn mapped_routes(
        &mut self,
        env: &mut Env<'_>,
        follower: &Follower,
        shown: usize,
    ) -> Result<()> {
        let Some(image) = follower.image() else { return Ok(()) };
        let routes = image.routes4(None).chain(image.routes6(None));
        self.mapped(env, follower, routes, shown, Prompt::MappedRoutes, |out, route| {
            route_menu_row(out, &route.key, &route.value, &ImageNames(image))
        })
    }

    fn mapped_neighbours(
        &mut self,
        env: &mut Env<'_>,
        follower: &Follower,
        shown: usize,
    ) -> Result<()> {
        let Some(image) = follower.image() else { return Ok(()) };
        let neighbours = image.neighbours();
        self.mapped(env, follower, neighbours, shown, Prompt::MappedNeighbours, |out, neighbour| {
            neighbour_menu_row(out, &neighbour.key, &neighbour.value, &ImageNames(image))
        })
    }

    /// A page of the image's entries, behind those that were shown.
    fn mapped<T>(
        &mut self,
        env: &mut Env<'_>,
        follower: &Follower,
        entries: impl Iterator<Item = std::result::Result<T, Busy>>,
        shown: usize,
        more: fn(usize) -> Prompt,
        print: impl Fn(&mut Bytes<'_>, &T) -> fmt::Result,
    ) -> Result<()> {
        let page = self.page();
        for (row, entry) in entries.skip(shown).enumerate() {
            if row == page {
                self.prompt = more(shown + page);
                return Ok(env.out.text("-- Enter: more, q: back -- ")?);
            }
            print(&mut env.out.buffer(), &entry.map_err(busy)?).map_err(io::Error::other)?;
            env.out.spill()?;
        }
        stale(env, follower)
    }

    /// The keys that came over the socket, each with its values out of the
    /// image. One without: that it is gone is on its way.
    fn keys(&mut self, env: &mut Env<'_>, follower: &Follower, from: Mac) -> Result<()> {
        let (Some(replica), Some(image)) = (follower.replica(), follower.image()) else {
            return Ok(());
        };
        let (page, mut rows) = (self.page(), 0);
        for mac in replica.keys(from) {
            if rows >= page {
                self.prompt = Prompt::Keys(mac);
                return Ok(env.out.text("-- Enter: more, q: back -- ")?);
            }
            for neighbour in image.neighbours_by_mac(mac).map_err(busy)? {
                rows += 1;
                let mut buffer = env.out.buffer();
                let (key, value) = (&neighbour.key, &neighbour.value);
                neighbour_menu_row(&mut buffer, key, value, &ImageNames(image))
                    .map_err(io::Error::other)?;
                env.out.spill()?;
            }
        }
        stale(env, follower)
    }
}

/// Below a table: that it may be old, if so.
fn stale(env: &mut Env<'_>, follower: &Follower) -> Result<()> {
    let state = follower.state();
    if state != rtm_client::State::Live {
        env.out.line(format_args!("(may be old: {})", state.name()))?;
    }
    Ok(())
}

/// The longest prefix match, in the copy.
fn look_up(env: &mut Env<'_>, follower: &Follower, line: &str) -> Result<()> {
    let Some(address): Option<IpAddr> = parse_address(line) else {
        let wrong = line.escape_debug();
        return Ok(env.out.line(format_args!(
            "rtm: address: {wrong}: not an IP address; like 10.1.1.1 or 2001:db8::1"
        ))?);
    };
    let printer = env.printer();
    if let Some(replica) = follower.replica() {
        let store = replica.store();
        let route = store.lookup(TABLE_MAIN, address);
        route_get::print(&printer, &mut None, store, address, route.as_ref(), &mut env.out)?;
    } else if let Some(image) = follower.image() {
        let route = image.lookup_route(TABLE_MAIN, address).map_err(busy)?;
        let names = ImageNames(image);
        route_get::print(&printer, &mut None, &names, address, route.as_ref(), &mut env.out)?;
    }
    stale(env, follower)
}

fn status(env: &mut Env<'_>, follower: &Follower) -> Result<()> {
    let out = &mut env.out;
    out.line(format_args!("state: {}", follower.state().name()))?;
    out.line(format_args!("daemon: {}", follower.address()))?;
    if let (Some(_), Some((epoch, revision))) = (follower.replica(), follower.position()) {
        out.line(format_args!("epoch: {:016x}", epoch.0))?;
        out.line(format_args!("revision: {}", revision.0))?;
    }
    if let Some(replica) = follower.replica() {
        let counts = replica.store().counts();
        out.line(format_args!("routes: {} IPv4, {} IPv6", counts.routes4, counts.routes6))?;
        out.line(format_args!("neighbours: {}, {} MAC addresses", counts.neighbours, counts.macs))?;
        out.line(format_args!("links: {}, next-hop groups: {}", counts.links, counts.groups))?;
    }
    if let Some(image) = follower.image() {
        let header = image.header();
        out.line(format_args!(
            "image: {} bytes, writer {}",
            header.bytes,
            crate::mapped::writer_name(image)
        ))?;
        if let (None, Ok(state)) = (follower.replica(), image.state()) {
            out.line(format_args!("epoch: {:016x}", state.epoch))?;
            out.line(format_args!("revision: {}", state.revision))?;
            out.line(format_args!("routes: {} IPv4, {} IPv6", state.routes[0], state.routes[1]))?;
            out.line(format_args!(
                "neighbours: {}, {} MAC addresses",
                state.neighbours, state.mac_keys
            ))?;
        }
    }
    if let Some(replica) = follower.replica().filter(|replica| replica.key_count() > 0) {
        out.line(format_args!("keys: {}", replica.key_count()))?;
    }
    let counts = follower.counts();
    out.line(format_args!(
        "received: {} records, {} bytes, {} snapshots, {} resumes, {} resyncs",
        counts.records, counts.bytes, counts.snapshots, counts.resumes, counts.resyncs
    ))?;
    Ok(())
}

/// A line of the grammar: asked of the daemon.
fn grammar(env: &mut Env<'_>, line: &str) -> Result<()> {
    // A number that the menu doesn't have is no word of the grammar either.
    if line.starts_with(|c: char| c.is_ascii_digit()) {
        let wrong = line.escape_debug();
        return Err(Failure::usage(format_args!(
            "menu: {wrong}: no such entry; 0 to 5 would be right"
        )));
    }
    let context = Context { names: env.names, family: env.options.family, listing: false };
    let Some((_, command)) = parse_line(line, &context)? else { return Ok(()) };
    match command {
        Command::Help(_)
        | Command::Version
        | Command::Change(_)
        | Command::RouteShow(_)
        | Command::RouteGet(_)
        | Command::RouteFlush(_)
        | Command::NeighbourShow(_)
        | Command::NeighbourFlush(_)
        | Command::ClientList
        | Command::Status
        | Command::Digest { .. }
        | Command::Sync(_)
        | Command::SourceList => {
            let result = run::run(env, command);
            // Nobody listens on that connection until the next line.
            env.close();
            result
        }
        _ => Err(Failure::usage(
            "menu: this command goes on for long, or asks; run it as rtm, in another terminal",
        )),
    }
}
