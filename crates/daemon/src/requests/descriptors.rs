//! `status -d`: the status, then every descriptor, one item each.

use std::collections::HashSet;
use std::os::fd::RawFd;

use rtm_tables::wire::{ItemFlags, ItemKind};

use super::{Answer, Around, Reply, Step};
use crate::core::Core;
use crate::inventory::{Row, unnamed};

/// Places looked at in one step.
const STEP: usize = 128;

/// Numbers that are looked at beyond those that are named: the kernel gives the
/// lowest that is free, and what was inherited is hardly above this.
const LOOKED_AT: RawFd = 1024;

/// Where it stands.
enum At {
    /// The status; then what is the daemon's own, and the session's that asks.
    Status,
    /// At this client's place.
    Clients(usize),
    /// What nobody has named: this number is next.
    Unnamed(RawFd),
}

/// The listing. It holds a place among the clients, and the numbers that it told.
pub(crate) struct Descriptors {
    at: At,
    /// Rows that wait to be told, the next one last.
    rows: Vec<Row>,
    named: HashSet<RawFd>,
    /// The last number that is looked at.
    highest: RawFd,
}

impl Descriptors {
    /// The loop is asked for what only it knows.
    pub(crate) fn new(core: &mut Core) -> Descriptors {
        core.inventory_asked = true;
        Descriptors { at: At::Status, rows: Vec::new(), named: HashSet::new(), highest: LOOKED_AT }
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
                if let Some(fd) = row.fd() {
                    self.named.insert(fd);
                    self.highest = self.highest.max(fd);
                }
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
                        self.at = At::Unnamed(0);
                        Vec::new()
                    }
                },
                At::Unnamed(fd) => {
                    if fd > self.highest {
                        return Step::Done(Reply::done());
                    }
                    self.at = At::Unnamed(fd + 1);
                    let is_named = self.named.contains(&fd);
                    if is_named { Vec::new() } else { unnamed(fd).into_iter().collect() }
                }
            };
            self.rows.reverse();
        }
        Step::More
    }
}
