//! The second copy of the image (`--publish-name`), under a POSIX name, for
//! programs that know only `shm_open` and `mmap`: a writer of its own, told the
//! same as the first one's.
//!
//! ```text
//!             can't be written                 walked through, one commit
//!  published ------------------> not there ------> being made anew ------> published
//!                                  ^   at once, then after some       |
//!                                  |   thousand turns, or a reload    |
//!                                  +----------------------------------+ no room
//! ```
//!
//! A copy that can't be written loses its name at once: who opens it must not
//! read what is old. The next one is made from the table, some hundred entities
//! a turn, as the first one's successor after a failure is, and gets the name
//! when it shows what the table holds.

use rtm_image::{CreateError, Object, Settings, WriteError, Writer};
use rtm_model::Digests;
use rtm_tables::Table;

use super::rebuild::{REBUILD_TURNS, Rebuild};

/// The second copy.
pub(super) struct Named {
    name: String,
    /// `None`: not published.
    writer: Option<Writer<Object>>,
    /// What is made to be published.
    rebuild: Option<Rebuild>,
    /// Turns until the next try.
    rebuild_in: u32,
    /// Why it isn't published.
    failed: Option<String>,
}

impl Named {
    /// Publishes an empty one; what can't be done now is tried again.
    pub(super) fn new(name: &str, settings: &Settings) -> Named {
        let made = Object::create_named(name, settings.bytes)
            .map_err(|error| error.to_string())
            .and_then(|object| Writer::new(object, settings).map_err(|error| error.to_string()));
        let (writer, failed) = match made {
            Ok(writer) => (Some(writer), None),
            Err(why) => (None, Some(why)),
        };
        Named { name: name.to_owned(), writer, rebuild: None, rebuild_in: REBUILD_TURNS, failed }
    }

    /// The name, while something is published under it.
    pub(super) fn published(&self) -> Option<&str> {
        self.writer.as_ref().map(|_| self.name.as_str())
    }

    /// Why nothing is.
    pub(super) fn failed(&self) -> Option<String> {
        self.failed.as_ref().map(|why| format!("{}: {why}", self.name))
    }

    /// Goes on with growth or a new copy, whether changes come or not?
    pub(super) fn has_work(&self) -> bool {
        self.rebuild.is_some() || self.writer.as_ref().is_some_and(Writer::is_growing)
    }

    /// So many records are to come.
    pub(super) fn reserve(&mut self, records: u64) {
        let Some(writer) = self.target() else { return };
        if let Err(error) = writer.reserve(records) {
            self.give_up(&error.to_string());
        }
    }

    fn target(&mut self) -> Option<&mut Writer<Object>> {
        self.writer.as_mut().or(self.rebuild.as_mut().map(|rebuild| &mut rebuild.writer))
    }

    /// What the first copy was told.
    pub(super) fn change(
        &mut self,
        change: &impl Fn(&mut Writer<Object>) -> Result<(), WriteError>,
    ) {
        let Some(writer) = self.target() else { return };
        if let Err(error) = change(writer) {
            self.give_up(&error.to_string());
        }
    }

    /// The turn becomes visible.
    pub(super) fn commit(&mut self, epoch: u64, revision: u64, digests: &Digests) {
        let Some(writer) = &mut self.writer else { return };
        if let Err(error) = writer.commit(epoch, revision, digests) {
            self.give_up(&error.to_string());
        }
    }

    /// Who writes its ring.
    pub(super) fn writer(&mut self) -> Option<&mut Writer<Object>> {
        self.writer.as_mut()
    }

    /// It can't be written, or what it is a copy of can't be.
    pub(super) fn give_up(&mut self, why: &str) {
        if let Some(mut writer) = self.writer.take() {
            tracing::warn!("{} is no longer published: {why}; it is made anew", self.name);
            writer.close();
            let _ = rtm_image::remove_name(&self.name);
            self.rebuild_in = 1;
        } else {
            self.rebuild_in = REBUILD_TURNS;
        }
        self.rebuild = None;
        self.failed = Some(why.to_owned());
    }

    /// Once a turn, when the first copy shows what the table holds and nothing is
    /// staged: goes on with a new one, of so large an object as the first one's.
    pub(super) fn step(&mut self, table: &Table, settings: &Settings) {
        if self.writer.is_some() {
            return;
        }
        let Some(rebuild) = &mut self.rebuild else {
            self.rebuild_in = self.rebuild_in.saturating_sub(1);
            if self.rebuild_in == 0 {
                self.begin(settings);
            }
            return;
        };
        match rebuild.step(table) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return self.give_up(&error.to_string()),
        }
        if let Err(error) = rebuild.writer.memory().publish() {
            return self.give_up(&error.to_string());
        }
        self.writer = self.rebuild.take().map(|rebuild| rebuild.writer);
        self.failed = None;
        tracing::info!("{} is published again, at revision {}", self.name, table.revision().0);
    }

    fn begin(&mut self, settings: &Settings) {
        let begun = Object::create_named(&self.name, settings.bytes)
            .map_err(|error: CreateError| error.to_string())
            .and_then(|object| {
                Writer::new(object.withheld(), settings).map_err(|error| error.to_string())
            });
        match begun {
            Ok(writer) => self.rebuild = Some(Rebuild::new(writer)),
            Err(why) => self.give_up(&why),
        }
    }

    /// The limits have changed: there may be room now.
    pub(super) fn set_bytes_max(&mut self, bytes_max: u64) {
        self.rebuild_in = self.rebuild_in.min(1);
        if let Some(writer) = self.target() {
            writer.set_bytes_max(bytes_max);
        }
    }

    /// The daemon stops in order.
    pub(super) fn close(&mut self) {
        if let Some(mut writer) = self.writer.take() {
            writer.close();
        }
        let _ = rtm_image::remove_name(&self.name);
    }
}
