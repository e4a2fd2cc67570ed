//! The one grammar of rtm: the `rtm` command, the daemon's console, batch
//! files, the message queue, the FIFO, route files and `monitor`. One parser,
//! one printer.
//!
//! ```text
//! line or arguments --words--> Words --options--> Options + Words --parse--> Command
//!                                                     Command::Change --> the tables
//! ```
//!
//! Read:
//!
//! | what | by |
//! |---|---|
//! | a line of console, batch, queue, FIFO | [`parse_line`]`(line, &cx)`; `None` for an empty one |
//! | lines that a backslash continues | [`LineJoiner`] |
//! | `rtm`'s arguments | [`parse_args`]`(&args, &cx)` |
//! | the menus' short forms | [`short_route`], [`short_destination`], [`short_neighbour`], [`short_neighbour_key`] |
//! | what `show`, `flush`, `wait` mean | [`RouteSelector`], [`NeighbourSelector`], with a [`Resolve`] |
//! | what a session follows | [`Filter`] |
//! | a line that `ip` or the printer wrote | [`parse_printed_route`], [`parse_printed_neighbour`] |
//! | files of routes | [`detect_format`], [`prefix_line`], [`spread`]; [`JsonObjects`] and [`json_route`] |
//!
//! Write:
//!
//! | what | by |
//! |---|---|
//! | lines of `ip route`, `ip neigh`, `ip monitor` | [`Printer`], with [`Heading`], [`Extra`], [`Hide`] |
//! | the same as JSON | [`Printer::route_json`] and so on, into a [`JsonWriter`] |
//! | the menus' tables | [`route_menu_row`], [`neighbour_menu_row`] and their headings |
//! | a change, or an entry, as the line that makes it | [`write_change`], [`write_route_line`], [`write_neighbour_line`] |
//! | words for completion | [`objects`], [`verbs`], [`route_words`], [`route_selector_words`], [`neighbour_words`], [`option_words`] |
//!
//! Output goes to any [`fmt::Write`](std::fmt::Write); [`Bytes`] makes one of
//! a `Vec<u8>`.
//!
//! A [`Context`] holds what the words don't say: the names in force
//! ([`Names`]) and the family of `-4`/`-6`. A wrong line is a
//! [`TextError`]: one line for the user, with the byte at which it went wrong.
//!
//! The grammar is iproute2's (`ip route`, `ip neigh`, `ip -batch`), with what
//! rtm adds. Left out, each refused with its reason: what a route or a
//! neighbour of rtm can't hold (`from`, `encap`, `vrf`, `expires`, `proxy`).

mod attributes;
mod change;
mod command;
mod error;
mod file;
mod filter;
mod hops;
mod json;
mod json_read;
mod menu;
mod neighbour;
mod options;
mod parse;
mod parse_entries;
mod print;
mod print_json;
mod route;
mod select_neighbour;
mod select_route;
mod selector;
mod short;
mod tables;
mod time;
mod value;
mod view;
mod words;
mod write;

pub use change::{write_change, write_neighbour_line, write_route_line};
pub use command::{
    Barrier, ClientRun, Command, FlushWhat, Format, LoadHops, Lookup, LookupInput, Monitor, Object,
    Peer, PeerChoice, Position, RouteGet, RouteLoad, RouteSave, RouteShow, Shell, Topic, Wait,
    WaitFor,
};
pub use error::{At, PLACE_BYTES_MAX, TextError, printable};
pub use file::{detect_format, line_text, prefix_line, spread};
pub use filter::{FILTER_ITEMS_MAX, Filter, FilterRules};
pub use json::JsonWriter;
pub use json_read::{JSON_OBJECT_BYTES_MAX, JsonObjects, json_route};
pub use menu::{neighbour_menu_heading, neighbour_menu_row, route_menu_heading, route_menu_row};
pub use neighbour::neighbour_words;
pub use options::{Color, Options, Timestamps, option_words};
pub use parse::{
    CLIENT_NAME_BYTES_MAX, parse_args, parse_line, parse_printed_neighbour, parse_printed_route,
};
pub use print::{Extra, Heading, Hide, Palette, Printer};
pub use route::route_words;
pub use selector::{
    NeighbourSelector, NudStates, PrefixRule, Resolve, RouteSelector, SOURCE_NAME_BYTES_MAX,
    Unresolved, route_selector_words,
};
pub use short::{short_destination, short_neighbour, short_neighbour_key, short_route};
pub use tables::{objects, verbs};
pub use time::Timestamp;
pub use words::{Cursor, LineJoiner, Word, Words};
pub use write::Bytes;

use crate::names::Names;
use crate::prefix::Family;

/// What the words of a line don't say.
#[derive(Clone, Copy, Debug)]
pub struct Context<'n> {
    /// The names in force.
    pub names: &'n Names,
    /// The family of `-4` or `-6`, if one was given.
    pub family: Option<Family>,
    /// The words are a line that `ip` or our printer wrote: what such a line
    /// leaves out has the value that it leaves out (scope global, protocol
    /// boot), and words that are no part of the route are passed over.
    pub listing: bool,
}

impl Default for Context<'_> {
    /// The built-in names, no family, commands.
    fn default() -> Self {
        Context { names: Names::builtin(), family: None, listing: false }
    }
}
