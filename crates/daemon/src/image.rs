//! The image: the daemon's tables in shared memory, kept beside the journal.
//!
//! ```text
//!   room_for ──> may a change be taken? grows the object, or says why not
//!   record   ──> written into the image at once, visible to nobody
//!   staged   ──> the same for a large load, slice by slice while it is committed
//!   publish  ──> once a turn: one store makes it all visible, then the ring of
//!                records, then the wake-up; only then the sessions are told
//! ```
//!
//! Why it is never behind what a session was told: the loop publishes here
//! before it publishes in the hub, and both from the same records.
//!
//! **No room.** Before anything is applied anywhere the image is asked whether
//! it finds room; a change that finds none is refused as a whole, with both
//! numbers. Deleting is never refused: if there is no room even for the copies
//! that it makes, publishing three times hands back what older versions held.
//!
//! **The second copy** (`--publish-name`) is a writer of its own over an object
//! that has a POSIX name. If it fails, it is given up, and `status` says so; the
//! first one goes on.

use std::os::fd::BorrowedFd;

use rtm_image::{Full, Object, Settings, Status, WriteError, Writer};
use rtm_model::{Entity, EntityKey};
use rtm_tables::wire::DaemonFrame;
use rtm_tables::{Epoch, Flush, Hub, Record, RecordOp, Revision, Table};

use crate::config::Limits;

/// The smallest object: the smallest ring and the smallest heap fit.
const OBJECT_BYTES_MIN: u64 = 8 << 20;

const MIB: u64 = 1 << 20;

/// The image and what goes with it.
pub(crate) struct Image {
    writer: Writer<Object>,
    /// With its name; `None`: not asked for, or given up.
    named: Option<(String, Writer<Object>)>,
    epoch: Epoch,
    /// The newest revision that it shows.
    revision: Revision,
    /// A large load was committed since the last publish: its records are not
    /// in the ring.
    leapt: bool,
    /// A record could not be written: readers keep what they have.
    failed: Option<String>,
    /// Changes that found no room.
    refused: u64,
    /// What went wrong with the named copy, to be logged once.
    pub(crate) warnings: Vec<String>,
}

/// What `status image` says.
pub(crate) struct ImageStatus<'a> {
    /// Of the image that the socket hands out.
    pub(crate) status: Status,
    /// The POSIX name of the second copy.
    pub(crate) name: Option<&'a str>,
    /// The newest revision that it shows.
    pub(crate) revision: Revision,
    /// Changes that found no room.
    pub(crate) refused: u64,
    /// Why nothing is written any more.
    pub(crate) failed: Option<&'a str>,
}

/// Bytes of the first object, with a ring of so many bytes.
pub(crate) fn bytes_min(ring_bytes: u64) -> u64 {
    (2 * ring_bytes.next_power_of_two()).max(OBJECT_BYTES_MIN)
}

fn settings(limits: &Limits, table: &Table, key: [u64; 2]) -> Settings {
    let ring_bytes = limits.image_ring_bytes.0.next_power_of_two();
    Settings {
        bytes: bytes_min(ring_bytes),
        bytes_max: limits.image_bytes_max.0,
        ring_bytes,
        epoch: table.epoch().0,
        digest_key: key,
    }
}

impl Image {
    /// An empty image of an empty table; with a second copy under a POSIX name,
    /// if one is given.
    ///
    /// # Errors
    /// One line.
    pub(crate) fn new(
        limits: &Limits,
        table: &Table,
        key: [u64; 2],
        name: Option<&str>,
    ) -> Result<Image, String> {
        let settings = settings(limits, table, key);
        let object = Object::create(settings.bytes).map_err(|error| format!("image: {error}"))?;
        let writer = Writer::new(object, &settings).map_err(|error| format!("image: {error}"))?;
        let mut warnings = Vec::new();
        let named = name.and_then(|name| {
            let writer = Object::create_named(name, settings.bytes)
                .map_err(|error| error.to_string())
                .and_then(|object| Writer::new(object, &settings).map_err(|e| e.to_string()));
            match writer {
                Ok(writer) => Some((name.to_owned(), writer)),
                Err(error) => {
                    warnings.push(format!("--publish-name: {name}: {error}"));
                    None
                }
            }
        });
        Ok(Image {
            writer,
            named,
            epoch: table.epoch(),
            revision: table.revision(),
            leapt: false,
            failed: None,
            refused: 0,
            warnings,
        })
    }

    /// The descriptor for readers.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.writer.memory().descriptor()
    }

    /// May so many changes be applied? Grows the object if it must.
    ///
    /// # Errors
    /// One line that says why not; nothing has changed.
    pub(crate) fn room_for(&mut self, changes: u64) -> Result<(), String> {
        if let Some(failed) = &self.failed {
            return Err(format!("the image can't be written: {failed}"));
        }
        self.writer.reserve(changes).map_err(|full| self.full(&full))?;
        if let Some((_, writer)) = &mut self.named {
            if let Err(error) = writer.reserve(changes) {
                self.give_up_name(&error.to_string());
            }
        }
        Ok(())
    }

    /// Would a load of so many changes find room? It grows while it is written.
    ///
    /// # Errors
    /// One line that says why not; nothing has changed.
    pub(crate) fn would_fit(&mut self, changes: u64) -> Result<(), String> {
        if let Some(failed) = &self.failed {
            return Err(format!("the image can't be written: {failed}"));
        }
        self.writer.would_fit(changes).map_err(|full| self.full(&full))
    }

    fn full(&mut self, full: &Full) -> String {
        self.refused += 1;
        match full {
            Full::Limit { bytes, limit } => format!(
                "no room in the image: it would take {} MiB, {} are allowed; a larger limits.image_bytes_max would be right",
                bytes / MIB,
                limit / MIB
            ),
            full => format!("no room in the image: {full}"),
        }
    }

    /// So many deletes are to come, which are never refused. How many of them
    /// may be made before this is asked again, or the turn is published.
    pub(crate) fn room_for_deletes(&mut self, deletes: usize, table: &Table) -> usize {
        /// What always finds room once older versions were handed back.
        const CERTAIN: usize = 32;
        if self.failed.is_some() || self.writer.reserve(deletes as u64).is_ok() {
            return deletes;
        }
        // What versions held that nobody is given any more, is handed back.
        for _ in 0..3 {
            self.commit(table);
        }
        if self.writer.reserve(deletes as u64).is_ok() { deletes } else { CERTAIN.min(deletes) }
    }

    /// A record: written, not visible.
    pub(crate) fn record(&mut self, record: &Record<'_>) {
        if self.failed.is_some() {
            return;
        }
        // The table encoded it: it can be decoded.
        let decoded = match record.op {
            RecordOp::Set => Entity::decode(record.kind, record.body).map(Ok),
            RecordOp::Delete => EntityKey::decode(record.kind, record.body).map(Err),
        };
        let what = match decoded {
            Ok(what) => what,
            Err(error) => return self.fail(&WriteError::Bytes(error)),
        };
        self.each(|writer| match &what {
            Ok(entity) => writer.set(entity),
            Err(key) => writer.delete(key),
        });
    }

    /// A whole flush.
    pub(crate) fn flush(&mut self, what: Flush) {
        if self.failed.is_none() {
            self.each(|writer| writer.flush(what.routes, what.neighbours));
        }
    }

    /// A large load is committed: all of it was told by `record` before.
    pub(crate) fn leap(&mut self) {
        self.leapt = true;
    }

    /// Makes visible what the turn has brought. True: something was.
    pub(crate) fn publish(&mut self, table: &Table, hub: &Hub) -> bool {
        if self.failed.is_some() || table.revision() == self.revision {
            return false;
        }
        let before = self.revision;
        self.commit(table);
        // What isn't in the ring whole is to be read again from the tables.
        let mut again = Vec::new();
        if std::mem::take(&mut self.leapt) || !hub.unpublished(&mut |_| {}) {
            let (revision, digests) = (table.revision(), table.digests());
            DaemonFrame::Begin { from: before }.encode(&mut again);
            DaemonFrame::End { revision, digests }.encode(&mut again);
        }
        let named = self.named.as_mut().map(|(_, writer)| writer);
        for writer in [Some(&mut self.writer), named].into_iter().flatten() {
            if again.is_empty() {
                hub.unpublished(&mut |frames| writer.ring_append(frames));
            } else {
                writer.ring_append(&again);
            }
            writer.ring_publish();
        }
        true
    }

    fn commit(&mut self, table: &Table) {
        let (epoch, revision, digests) = (self.epoch.0, table.revision(), table.digests());
        if let Err(error) = self.writer.commit(epoch, revision.0, &digests) {
            return self.fail(&error.into());
        }
        self.revision = revision;
        if let Some((_, writer)) = &mut self.named {
            if let Err(error) = writer.commit(epoch, revision.0, &digests) {
                self.give_up_name(&error.to_string());
            }
        }
    }

    fn each(&mut self, change: impl Fn(&mut Writer<Object>) -> Result<(), WriteError>) {
        if let Err(error) = change(&mut self.writer) {
            return self.fail(&error);
        }
        if let Some((_, writer)) = &mut self.named {
            if let Err(error) = change(writer) {
                self.give_up_name(&error.to_string());
            }
        }
    }

    fn fail(&mut self, error: &WriteError) {
        tracing::error!(
            "the image is no longer written: {error}; changes are refused from here on"
        );
        self.writer.close();
        self.failed = Some(error.to_string());
        self.give_up_name("the image failed");
    }

    fn give_up_name(&mut self, why: &str) {
        if let Some((name, mut writer)) = self.named.take() {
            tracing::warn!("{name} is no longer published: {why}");
            writer.close();
            let _ = rtm_image::remove_name(&name);
            self.warnings.push(format!("--publish-name: {name}: {why}"));
        }
    }

    /// The limits have changed.
    pub(crate) fn configure(&mut self, limits: &Limits) {
        self.writer.set_bytes_max(limits.image_bytes_max.0);
        if let Some((_, writer)) = &mut self.named {
            writer.set_bytes_max(limits.image_bytes_max.0);
        }
    }

    /// The daemon stops in order: readers are told, the name goes.
    pub(crate) fn close(&mut self) {
        self.writer.close();
        if let Some((name, mut writer)) = self.named.take() {
            writer.close();
            let _ = rtm_image::remove_name(&name);
        }
    }

    /// How it is.
    pub(crate) fn status(&self) -> ImageStatus<'_> {
        ImageStatus {
            status: self.writer.status(),
            name: self.named.as_ref().map(|(name, _)| name.as_str()),
            revision: self.revision,
            refused: self.refused,
            failed: self.failed.as_deref(),
        }
    }
}
