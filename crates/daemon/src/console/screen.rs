//! What the console shows: answers as text, a page at a time on a terminal.
//!
//! Rows are made as they come and handed to a writer that never waits. While it
//! has no room, or a page is full, an answer finds no room and its job stops
//! where it is: a million routes are never text all at once.

use std::borrow::Cow;
use std::fmt::Write as _;

use rtm_model::text::{
    Extra, Heading, Options, Printer, Resolve, neighbour_menu_heading, neighbour_menu_row,
    printable, route_menu_heading, route_menu_row,
};
use rtm_model::{Entity, EntityKind, Group, GroupId, Link, LinkId, Names};
use rtm_tables::SessionInfo;
use rtm_tables::wire::{ItemFlags, ItemKind};
use serde_json::Value;

use crate::core::Core;
use crate::requests::Answer;
use crate::writer::Writer;

/// Text is handed on in pieces of this size.
const PIECE: usize = 8 * 1024;

/// Links and groups that are remembered, as many as the listing's own memory of
/// what it told has: see `requests/show.rs`.
const KNOWN: usize = 256;

/// How an answer is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    /// As the menus' tables.
    Table,
    /// As `ip` and `rtm` print.
    Lines,
}

/// Links and groups that rows refer to.
struct Known {
    links: Vec<Option<Link>>,
    groups: Vec<Option<Group>>,
}

impl Resolve for Known {
    fn link(&self, id: LinkId) -> Option<Link> {
        self.links[id.0 as usize % KNOWN].filter(|link| link.id == id)
    }

    fn group(&self, id: GroupId) -> Option<Cow<'_, Group>> {
        let group = self.groups[id.0 as usize % KNOWN].as_ref()?;
        (group.id == id).then_some(Cow::Borrowed(group))
    }
}

/// The console's output.
pub(crate) struct Screen {
    out: Writer,
    /// Text that the writer had no room for yet.
    text: String,
    /// Lines of a page; `None`: not paged.
    page: Option<usize>,
    /// Lines on the page at hand.
    lines: usize,
    style: Style,
    names: Names,
    known: Known,
    /// Rows of the answer at hand.
    rows: u64,
    /// An address that was looked up; its answer is the next item, or there is
    /// none.
    asked: Option<String>,
    /// The source that candidates belong to, by number.
    sources: Vec<(u32, String)>,
}

impl Screen {
    /// On this writer; `page`: a terminal's lines.
    pub(crate) fn new(out: Writer, page: Option<usize>, names: Names) -> Screen {
        Screen {
            out,
            text: String::new(),
            page,
            lines: 0,
            style: Style::Lines,
            names,
            known: Known { links: vec![None; KNOWN], groups: vec![None; KNOWN] },
            rows: 0,
            asked: None,
            sources: Vec::new(),
        }
    }

    /// An answer begins.
    pub(crate) fn begin(&mut self, style: Style) {
        self.style = style;
        self.rows = 0;
        self.lines = 0;
        self.known.links.fill(None);
        self.known.groups.fill(None);
        self.sources.clear();
    }

    /// An answer has ended.
    pub(crate) fn end(&mut self) {
        if let Some(address) = self.asked.take() {
            let _ = writeln!(self.text, "{address} unreachable");
        }
    }

    /// Is the output paged, as on a terminal?
    pub(crate) fn is_terminal(&self) -> bool {
        self.page.is_some()
    }

    /// Rows of the answer so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// A heading, before any row.
    pub(crate) fn routes_heading(&mut self) {
        let _ = route_menu_heading(&mut self.text);
        self.lines += 2;
    }

    /// The same for the MAC table.
    pub(crate) fn neighbours_heading(&mut self) {
        let _ = neighbour_menu_heading(&mut self.text);
        self.lines += 2;
    }

    /// Shows text as it is.
    pub(crate) fn show(&mut self, text: &str) {
        self.text.push_str(text);
        self.flush();
    }

    /// Hands on what is there; true: all of it.
    pub(crate) fn flush(&mut self) -> bool {
        while !self.text.is_empty() {
            let mut end = self.text.len().min(PIECE);
            while !self.text.is_char_boundary(end) {
                end -= 1;
            }
            if !self.out.write(&self.text.as_bytes()[..end]) {
                return false;
            }
            self.text.drain(..end);
        }
        true
    }

    /// Is the page full? The next waits until somebody asks for it.
    pub(crate) fn page_is_full(&self) -> bool {
        self.page.is_some_and(|page| self.lines + 1 >= page)
    }

    /// Another page.
    pub(crate) fn next_page(&mut self, page: Option<usize>) {
        self.page = page;
        self.lines = 0;
    }

    /// The writer, to be ended with.
    pub(crate) fn writer(&self) -> &Writer {
        &self.out
    }

    fn entity(&mut self, kind: EntityKind, flags: ItemFlags, body: &[u8]) {
        let Ok(entity) = Entity::decode(kind, body) else { return };
        let resolves = flags.contains(ItemFlags::RESOLVES);
        let _ = match (&entity, self.style) {
            (Entity::Link(link), _) if resolves => {
                self.known.links[link.id.0 as usize % KNOWN] = Some(*link);
                return;
            }
            (Entity::Group(group), _) if resolves => {
                self.known.groups[group.id.0 as usize % KNOWN] = Some(group.clone());
                return;
            }
            (Entity::Route(_), _) if self.asked.is_some() => {
                let asked = self.asked.take().unwrap_or_default();
                write!(self.text, "{asked} ").and_then(|()| self.line(&entity))
            }
            (Entity::Route(route), Style::Table) => {
                route_menu_row(&mut self.text, &route.key, &route.value, &self.known)
            }
            (Entity::Neighbour(n), Style::Table) => {
                neighbour_menu_row(&mut self.text, &n.key, &n.value, &self.known)
            }
            (entity, Style::Lines) => self.line(entity),
            (Entity::Link(_) | Entity::Group(_), Style::Table) => Ok(()),
        };
        self.rows += 1;
    }

    /// An entity as `ip` prints it.
    fn line(&mut self, entity: &Entity) -> std::fmt::Result {
        let printer = Printer::new(&Options::default(), &self.names, None);
        let (text, known, heading) = (&mut self.text, &self.known, Heading::default());
        match entity {
            Entity::Route(route) => {
                let extra = Extra::default();
                printer.route(text, &route.key, &route.value, known, &heading, &extra)
            }
            Entity::Neighbour(n) => printer.neighbour(text, &n.key, &n.value, known, &heading),
            Entity::Link(_) | Entity::Group(_) => Ok(()),
        }
    }

    /// A value of ours as lines for people.
    fn value(&mut self, value: &Value) {
        let Some(object) = value.as_object() else {
            let _ = writeln!(self.text, "{value}");
            return;
        };
        if object.contains_key("transport") {
            if self.rows == 0 {
                let _ = writeln!(
                    self.text,
                    "{:<16} {:>7} {:>6} {:<7} {:<11} {:>10} {:>8} {:>7} SIGNAL",
                    "NAME", "PID", "UID", "BY", "STATE", "REVISION", "LAG", "SIGPID"
                );
            }
            let text = |key: &str| match &object[key] {
                Value::String(text) if text.is_empty() => "-".to_owned(),
                Value::String(text) => printable(text),
                Value::Null => "-".to_owned(),
                value => value.to_string(),
            };
            let _ = writeln!(
                self.text,
                "{:<16} {:>7} {:>6} {:<7} {:<11} {:>10} {:>8} {:>7} {}",
                text("name"),
                text("pid"),
                text("uid"),
                text("transport"),
                text("state"),
                text("revision"),
                text("lag_records"),
                // The pid that it registered, and how it is signalled.
                text("registered_pid"),
                text("signal")
            );
        } else if let (Some(epoch), Some(routes)) = (object.get("epoch"), object.get("routes")) {
            let _ = writeln!(
                self.text,
                "{} {} {} {} {} {}",
                plain(epoch),
                plain(&object["revision"]),
                plain(routes),
                plain(&object["neighbours"]),
                plain(&object["keys"]),
                plain(&object["links"])
            );
        } else {
            for (key, value) in object.iter().filter(|(key, _)| *key != "turns") {
                let _ = writeln!(self.text, "{key:<18} {}", plain(value));
            }
        }
        self.rows += 1;
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        value => value.to_string(),
    }
}

impl Answer for Screen {
    fn item(&mut self, kind: ItemKind, flags: ItemFlags, body: &[u8]) -> bool {
        if self.page_is_full() || self.text.len() >= PIECE && !self.flush() || !self.out.has_room()
        {
            return false;
        }
        let before = self.text.len();
        match kind {
            ItemKind::Entity(kind) => self.entity(kind, flags, body),
            ItemKind::Candidate4 | ItemKind::Candidate6 => {
                let (head, route) = body.split_at(body.len().min(8));
                let id = head.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
                let name = self.sources.iter().find(|(known, _)| *known == id);
                let source = name.map_or("?", |(_, name)| name).to_owned();
                let won = if head.get(4) == Some(&1) { '*' } else { ' ' };
                let _ = write!(self.text, "{won} {source:<12} ");
                let family = match kind {
                    ItemKind::Candidate4 => EntityKind::Route4,
                    _ => EntityKind::Route6,
                };
                self.entity(family, flags, route);
            }
            ItemKind::Source => {
                let id = body.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
                let name = String::from_utf8_lossy(body.get(8..).unwrap_or_default());
                self.sources.push((id, name.into_owned()));
            }
            ItemKind::Address => {
                self.end();
                self.asked = address(body);
            }
            ItemKind::Json => {
                if let Ok(value) = serde_json::from_slice(body) {
                    self.value(&value);
                }
            }
            ItemKind::Text => self.text.push_str(&String::from_utf8_lossy(body)),
            _ => {}
        }
        self.lines += self.text[before.min(self.text.len())..].matches('\n').count();
        true
    }

    fn own_info(&self, _: &Core) -> Option<SessionInfo> {
        None
    }
}

/// An address that was looked up.
fn address(body: &[u8]) -> Option<String> {
    match body.first()? {
        4 => Some(std::net::Ipv4Addr::from(*body.get(8..)?.first_chunk::<4>()?).to_string()),
        6 => Some(std::net::Ipv6Addr::from(*body.get(8..)?.first_chunk::<16>()?).to_string()),
        _ => None,
    }
}
