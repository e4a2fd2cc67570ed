//! `status -d`: the status, then every descriptor, one item each.

use std::collections::HashSet;
use std::os::fd::RawFd;

use rtm_tables::wire::{ItemFlags, ItemKind};

use super::{Answer, Around, Reply, Step};
use crate::core::Core;
use crate::inventory::{Row, unnamed};

/// Places looked at in one step.
const STEP: usize = 128;

/// Where it stands.
enum At {
    /// The status; then what is the daemon's own, and the session's that asks.
    Status,
    /// At this client's place.
    Clients(usize),
    /// What nobody has named.
    Unnamed,
}

/// The listing. It holds a place among the clients, and the numbers that it told.
pub(crate) struct Descriptors {
    at: At,
    /// Rows that wait to be told, the next one last.
    rows: Vec<Row>,
    named: HashSet<RawFd>,
}

impl Descriptors {
    /// The loop is asked for what only it knows.
    pub(crate) fn new(core: &mut Core) -> Descriptors {
        core.inventory_asked = true;
        Descriptors { at: At::Status, rows: Vec::new(), named: HashSet::new() }
    }

    pub(crate) fn step(&mut self, core: &Core, around: &Around<'_>, out: &mut dyn Answer) -> Step {
        for _ in 0..STEP {
            while let Some(row) = self.rows.last() {
                if !out.item(
                    ItemKind::Json,
                    ItemFlags::default(),
                    row.json().to_string().as_bytes(),
                ) {
                    return Step::NoRoom;
                }
                self.named.extend(row.fd());
                self.rows.pop();
            }
            self.rows = match self.at {
                At::Status => {
                    let step = super::status::status(core, around, out);
                    if !matches!(step, Step::Done(_)) {
                        return step;
                    }
                    self.at = At::Clients(0);
                    [&*around.facts.inventory, &*around.clients.own_rows].concat()
                }
                At::Clients(place) => match around.clients.rows_at(place, core) {
                    Some(rows) => {
                        self.at = At::Clients(place + 1);
                        rows
                    }
                    None => {
                        self.at = At::Unnamed;
                        unnamed(|fd| self.named.contains(&fd))
                    }
                },
                At::Unnamed => return Step::Done(Reply::done()),
            };
            self.rows.reverse();
        }
        Step::More
    }
}
