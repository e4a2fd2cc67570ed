//! The image: the daemon's tables in shared memory, kept beside the journal.
//!
//! ```text
//!   room_for ──> may a change be taken? grows the object, or says why not
//!   record   ──> written into the image at once, visible to nobody
//!   staged   ──> the same for a large load, slice by slice while it is committed
//!   publish  ──> once a turn: one store makes it all visible, then the ring of
//!                records; only then the sessions are told
//!   wake     ──> who sleeps at the ring: once a turn, in a burst less often
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
//! **Nobody has it.** Until the first process asks for the descriptor (or the
//! image has a name, which anybody may open) nobody can see it, and a turn that
//! brought much, or came soon after another, need not wait for it: it is left behind,
//! at a marker in the table's modification order, and goes on from there in slices when
//! no large turn came for a moment. So a key that changed ten times meanwhile is written once, and
//! those who follow the changes have the processors first.
//! Who asks for it waits until it is up to date; from then on it never is behind.
//! It only falls behind where what it isn't told finds room many times over: long
//! before room gets scarce it catches up faster than changes come, and where a
//! control group limits memory, so that room is what others leave, it never is behind.
//!
//! ```text
//!       a large turn, or the second within
//!       a moment, and nobody has it
//!    in step ──────────────────────────────────> behind, at a marker
//!       ^  ^                                       │   │ tombstones are gone
//!       │  └──── at the tail: one commit ──────────┘   v
//!       └───────── made anew from the table <──────────┘
//! ```
//!
//! **Growth** goes in slices, one a turn, by the writer itself ([`Writer::tend`]).
//!
//! **Failure.** A write that fails all the same (memory that was promised and
//! isn't there) leaves an image that can't be written on: readers keep its last
//! revision, and a new one is made from the table, some hundred entities a turn.
//! Records go into it meanwhile, and the walk over the table brings what was there
//! before; when the walk is through, it is committed and takes the old one's
//! place, as a successor does. Until then the image is behind the sessions. If the
//! new one finds no room either, changes that add something are refused, and it is
//! tried again later.
//!
//! **The second copy** (`--publish-name`) is in `named`. If it fails, `status`
//! says so, the first one goes on, and it is made anew.

mod named;
mod rebuild;
mod waking;

use std::os::fd::BorrowedFd;
use std::time::Instant;

use rtm_image::{CreateError, Full, Object, Part, Settings, Status, WriteError, Writer};
use rtm_model::Digests;
use rtm_tables::wire::DaemonFrame;
use rtm_tables::{
    Flush, Hub, MarkerId, Millis, OrderItem, Record, RecordOp, Revision, Step, Table,
};

use crate::config::Limits;
use named::Named;
use rebuild::{REBUILD_TURNS, Rebuild};
use waking::Waking;

/// The smallest object: the smallest ring and the smallest heap fit.
const OBJECT_BYTES_MIN: u64 = 8 << 20;

const MIB: u64 = 1 << 20;

/// A turn with more records than this is a large one: it doesn't wait for an image
/// that nobody has, and does nothing for one that is behind.
const LARGE_TURN: u64 = 128;
/// An image that is behind begins to catch up so long after the last large turn:
/// subscribers still have work with what that one brought. A turn that comes so soon
/// after another is one of many: each that doesn't wait for the image is told sooner.
const LEISURE_MS: Millis = 200;
/// As long as a subscriber's socket is full it goes on waiting, but no longer than so
/// long after the last large turn: one that never reads is none of its business.
const LEISURE_MAX_MS: Millis = 2_000;
/// Entities that it catches up with in one turn, while nobody waits for it.
const CATCH_UP: u64 = 512;
/// And while somebody does; with half as many again as the turn brought, so that it
/// gets there however fast changes come: at most two more come for each that it
/// wasn't told.
const CATCH_UP_URGENT: u64 = 1024;
/// It makes haste when what it wasn't told would no longer fit in so many times:
/// that and the two more come, and one to spare.
const LAG_FITS: u64 = 4;
/// Where not even so many changes find room, it isn't left behind.
const LAG_ROOM: u64 = 64 << 10;

/// The image and what goes with it.
pub(crate) struct Image {
    writer: Writer<Object>,
    /// The second copy, if there is to be one.
    named: Option<Named>,
    /// The newest revision that it shows.
    revision: Revision,
    /// A large load was committed since the last publish: its records are not
    /// in the ring.
    leapt: bool,
    /// A record could not be written: readers keep what they have.
    failed: Option<String>,
    /// What is made in its place.
    rebuild: Option<Rebuild>,
    /// Turns until the next try.
    rebuild_in: u32,
    /// Somebody can see it: was given the descriptor, or may open the name. From
    /// then on it is never behind.
    is_public: bool,
    /// Somebody asked for it while it was behind.
    is_wanted: bool,
    /// Since when it is behind.
    lag: Option<Lag>,
    /// Records since the last publish.
    came: u64,
    /// A turn with records before this comes soon after another.
    soon_until: Millis,
    /// It isn't left behind before this: there was no room for what that takes.
    stays_until: Millis,
    settings: Settings,
    waking: Waking,
    /// Changes that found no room.
    refused: u64,
    /// What went wrong with the named copy, to be logged once.
    pub(crate) warnings: Vec<String>,
}

/// What an image that is behind has yet to be told.
struct Lag {
    /// In the modification order: all before it is written.
    marker: MarkerId,
    /// Records that it wasn't told.
    records: u64,
    /// When it may go on, if nobody waits for it.
    from: Millis,
    /// Until when that may be put off.
    latest: Millis,
    /// It comes near to its limit, where room has to be known exactly.
    is_urgent: bool,
}

/// The frames that tell followers of the ring to read the tables again.
fn read_again(from: Revision, table: &Table) -> Vec<u8> {
    let mut frames = Vec::new();
    let (revision, digests) = (table.revision(), table.digests());
    DaemonFrame::Begin { from }.encode(&mut frames);
    DaemonFrame::End { revision, digests }.encode(&mut frames);
    frames
}

/// What `status image` says.
pub(crate) struct ImageStatus<'a> {
    /// Of the image that the socket hands out.
    pub(crate) status: Status,
    /// The POSIX name of the second copy, while it is published.
    pub(crate) name: Option<&'a str>,
    /// Why it isn't, with its name.
    pub(crate) name_failed: Option<String>,
    /// The newest revision that it shows.
    pub(crate) revision: Revision,
    /// Records that it has yet to be told, as nobody has it.
    pub(crate) behind: u64,
    /// Changes that found no room.
    pub(crate) refused: u64,
    /// Why nothing is written any more.
    pub(crate) failed: Option<&'a str>,
}

fn full(error: &Full) -> String {
    match error {
        Full::Limit { bytes, limit } => format!(
            "no room in the image: it would take {} MiB, {} are allowed; a larger limits.image_bytes_max would be right",
            bytes / MIB,
            limit / MIB
        ),
        error => format!("no room in the image: {error}"),
    }
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
        ..Settings::default()
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
        let named = name.map(|name| Named::new(name, &settings));
        let failed = named.as_ref().and_then(Named::failed);
        warnings.extend(failed.map(|why| format!("--publish-name: {why}")));
        Ok(Image {
            writer,
            named,
            revision: table.revision(),
            leapt: false,
            failed: None,
            rebuild: None,
            rebuild_in: 0,
            is_public: name.is_some(),
            is_wanted: false,
            lag: None,
            came: 0,
            soon_until: 0,
            stays_until: 0,
            settings,
            waking: Waking::default(),
            refused: 0,
            warnings,
        })
    }

    /// Somebody wants it. True: it may be given away, and is kept in step from
    /// here on. False: it isn't up to date yet, and will be soon.
    ///
    /// # Errors
    /// One line that says why there is none.
    pub(crate) fn give(&mut self) -> Result<bool, String> {
        if let (false, None, Some(why)) = (self.is_public, &self.rebuild, &self.failed) {
            return Err(format!("the image can't be written: {why}"));
        }
        self.is_wanted = self.is_pending();
        self.is_public |= !self.is_wanted;
        Ok(self.is_public)
    }

    /// Has who asks for it to wait until it shows what the table holds? One that
    /// somebody has is handed out as it is, also while it is made anew.
    pub(crate) fn is_pending(&self) -> bool {
        !self.is_public && (self.lag.is_some() || self.rebuild.is_some())
    }

    /// The descriptor for readers.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.writer.memory().descriptor()
    }

    /// May changes that make so many records be applied? Grows the object if it
    /// must.
    ///
    /// # Errors
    /// One line that says why not; nothing has changed.
    pub(crate) fn room_for(&mut self, records: u64, table: &Table) -> Result<(), String> {
        if self.lag.is_some() {
            return self.room_behind(records, table);
        }
        self.writable()?.reserve(records).map_err(|error| full(&error))?;
        if let Some(named) = &mut self.named {
            named.reserve(records);
        }
        Ok(())
    }

    /// Would a load of so many changes find room? It grows while it is written.
    ///
    /// # Errors
    /// One line that says why not; nothing has changed.
    pub(crate) fn would_fit(&mut self, changes: u64, table: &Table) -> Result<(), String> {
        if self.lag.is_some() {
            return self.room_behind(changes, table);
        }
        self.writable()?.would_fit(changes).map_err(|error| full(&error))
    }

    /// The same while it is behind, when nothing need grow yet.
    fn room_behind(&mut self, records: u64, table: &Table) -> Result<(), String> {
        let Some(lag) = &mut self.lag else { return Ok(()) };
        let counts = table.store().counts();
        let entities = counts.routes4 + counts.routes6 + counts.neighbours + counts.groups;
        // Each key is written once.
        let untold = lag.records.min((entities + counts.links) as u64) + records;
        lag.is_urgent |= self.writer.would_fit(untold * LAG_FITS).is_err();
        self.writer.would_fit(untold).map_err(|error| full(&error))
    }

    /// A change found no room, and was refused.
    pub(crate) fn refuse(&mut self) {
        self.refused += 1;
    }

    /// Who writes: the image, or what is made in its place.
    fn writable(&mut self) -> Result<&mut Writer<Object>, String> {
        match (&self.failed, &mut self.rebuild) {
            (None, None) => Ok(&mut self.writer),
            (_, Some(rebuild)) => Ok(&mut rebuild.writer),
            (Some(failed), None) => Err(format!("the image can't be written: {failed}")),
        }
    }

    /// So many deletes are to come, which are never refused. How many of them
    /// may be made before this is asked again, or the turn is published.
    pub(crate) fn room_for_deletes(&mut self, deletes: usize, table: &Table) -> usize {
        /// What always finds room once older versions were handed back.
        const CERTAIN: usize = 32;
        /// A delete is one record, but copies as much as any change of a route.
        const RECORDS: u64 = 4;
        let records = deletes as u64 * RECORDS;
        let later = self.failed.is_some() || self.lag.is_some() || self.rebuild.is_some();
        if later || self.writer.reserve(records).is_ok() {
            return deletes;
        }
        // What versions held that nobody is given any more, is handed back.
        for _ in 0..3 {
            self.commit(table);
        }
        if self.writer.reserve(records).is_ok() { deletes } else { CERTAIN.min(deletes) }
    }

    /// A record: written, not visible.
    pub(crate) fn record(&mut self, record: &Record<'_>) {
        self.came += 1;
        if let Some(lag) = &mut self.lag {
            lag.records += 1;
            return;
        }
        let (kind, body) = (record.kind, record.body);
        self.each(|writer| match record.op {
            RecordOp::Set => writer.set_bytes(kind, body),
            RecordOp::Delete => writer.delete_bytes(kind, body),
        });
    }

    /// A whole flush.
    pub(crate) fn flush(&mut self, what: Flush) {
        if self.lag.is_some() {
            return;
        }
        self.each(|writer| writer.flush(what.routes, what.neighbours));
    }

    /// A large load is committed: all of it was told by `record` before.
    pub(crate) fn leap(&mut self) {
        self.leapt = true;
    }

    /// Is there something to go on with, whether changes come or not?
    pub(crate) fn has_work(&self, table: &Table, now: Millis) -> bool {
        match (&self.rebuild, &self.lag) {
            (Some(_), _) => !table.is_staging(),
            (_, Some(lag)) => {
                let due = self.is_wanted || lag.is_urgent || lag.from <= now;
                due && !table.is_staging()
            }
            (None, None) if self.failed.is_some() => false,
            (None, None) => {
                let named = self.named.as_ref().is_some_and(Named::has_work);
                self.writer.is_growing() || named && !table.is_staging()
            }
        }
    }

    /// When there will be, if nothing comes.
    pub(crate) fn poll_timeout(&self, table: &Table) -> Option<Millis> {
        self.lag.as_ref().filter(|_| !table.is_staging()).map(|lag| lag.from)
    }

    /// Makes visible what the turn has brought. True: something was.
    pub(crate) fn publish(&mut self, table: &mut Table, hub: &Hub, now: Millis) -> bool {
        let came = std::mem::take(&mut self.came);
        let soon = came > 0 && now < std::mem::replace(&mut self.soon_until, now + LEISURE_MS);
        if self.rebuild.is_some() || self.failed.is_some() {
            return self.rebuild_some(table);
        }
        if self.lag.is_some() {
            return self.catch_up(table, came, now);
        }
        let before = self.revision;
        if table.revision() == before {
            // Also when a slice of a large load came: or none would begin to grow before
            // there is no room, and then all of it is done at once.
            let named = self.named.as_ref().is_some_and(Named::has_work);
            if came > 0 || self.writer.is_growing() || named {
                self.each(|writer| Ok(writer.tend()?));
            }
            self.tend_name(table);
            return false;
        }
        self.commit(table);
        if self.failed.is_some() {
            return false;
        }
        // What isn't in the ring whole is to be read again from the tables.
        let mut again = Vec::new();
        if std::mem::take(&mut self.leapt) || !hub.unpublished(&mut |_| {}) {
            again = read_again(before, table);
        }
        let named = self.named.as_mut().and_then(Named::writer);
        for writer in [Some(&mut self.writer), named].into_iter().flatten() {
            if again.is_empty() {
                hub.unpublished(&mut |frames| writer.ring_append(frames));
            } else {
                writer.ring_append(&again);
            }
            writer.ring_show();
        }
        if self.is_public {
            self.waking.owe();
        }
        self.tend_name(table);
        let worth = came > LARGE_TURN || soon && self.stays_until <= now;
        if worth && !self.is_public && !table.is_staging() {
            if self.may_fall_behind() {
                self.fall_behind(table, now);
            } else {
                self.stays_until = now + LEISURE_MAX_MS;
            }
        }
        true
    }

    /// Wakes who sleeps until something can be read, if something new can. In a burst
    /// (`goes_on`: another turn follows at once, as more has come already) not in
    /// each turn.
    pub(crate) fn wake(&mut self, goes_on: impl FnOnce() -> bool) {
        if !self.waking.is_owed() || !self.waking.is_due(Instant::now(), goes_on) {
            return;
        }
        let named = self.named.as_mut().and_then(Named::writer).map(|writer| &*writer);
        let writers = [Some(&self.writer), named].into_iter().flatten();
        let woken = writers.map(Writer::ring_wake).sum();
        self.waking.woke(Instant::now(), woken);
    }

    /// Is somebody perhaps asleep who has something to read?
    pub(crate) fn owes_wake(&self) -> bool {
        self.waking.is_owed()
    }

    /// Is there room for what it would not be told, whatever that is?
    fn may_fall_behind(&self) -> bool {
        self.writer.would_fit(LAG_ROOM * LAG_FITS).is_ok()
            && ipc::cgroup::memory_headroom().is_none()
    }

    /// It is at the table's revision, and won't be told what comes next.
    fn fall_behind(&mut self, table: &mut Table, now: Millis) {
        let marker = table.marker();
        // Nothing is newer, so that it is found at once.
        while !table.marker_seek(marker, self.revision, usize::MAX) {}
        let (from, latest) = (now + LEISURE_MS, now + LEISURE_MAX_MS);
        self.lag = Some(Lag { marker, records: 0, from, latest, is_urgent: false });
    }

    /// Would it go on catching up now, though it could as well later?
    pub(crate) fn can_wait(&self, now: Millis) -> bool {
        let waits = |lag: &Lag| !lag.is_urgent && lag.from <= now && now < lag.latest;
        !self.is_wanted && self.lag.as_ref().is_some_and(waits)
    }

    /// Others need the processors more.
    pub(crate) fn put_off(&mut self, now: Millis) {
        if let Some(lag) = &mut self.lag {
            lag.from = (now + LEISURE_MS).min(lag.latest);
        }
    }

    /// Goes on in the modification order from where it stopped. True: it is up to
    /// date.
    fn catch_up(&mut self, table: &mut Table, came: u64, now: Millis) -> bool {
        let Some(lag) = &mut self.lag else { return false };
        if came > LARGE_TURN {
            (lag.from, lag.latest) = (now + LEISURE_MS, now + LEISURE_MAX_MS);
        }
        // What is staged isn't committed, and stands in the table all the same.
        if table.is_staging() {
            return false;
        }
        let budget = match self.is_wanted || lag.is_urgent {
            true => CATCH_UP_URGENT + came + came / 2,
            false if now < lag.from => return false,
            false => CATCH_UP,
        };
        let marker = lag.marker;
        let mut end = Step::Moved;
        for _ in 0..budget {
            let (writer, mut result) = (&mut self.writer, Ok(()));
            end = table.marker_next(marker, &mut |item| {
                result = match item {
                    OrderItem::Set { kind, body, .. } => writer.set_bytes(kind, body),
                    OrderItem::Gone { kind, key, .. } => writer.delete_bytes(kind, key),
                    OrderItem::Flushed { what, .. } => writer.flush(what.routes, what.neighbours),
                };
            });
            if let Err(error) = result {
                self.stop_lagging(table);
                self.fail(&error);
                return false;
            }
            if end != Step::Moved {
                break;
            }
        }
        match end {
            // Nobody sees this: it hands back the copies that the slice has made.
            Step::Moved => {
                let (epoch, revision) = (table.epoch().0, self.revision.0);
                let committed = self.writer.commit(epoch, revision, &Digests::default());
                if let Err(error) = committed {
                    self.stop_lagging(table);
                    self.fail(&error.into());
                }
                false
            }
            Step::Tail => {
                self.stop_lagging(table);
                (self.is_wanted, self.leapt) = (false, false);
                let before = self.revision;
                self.commit(table);
                if self.failed.is_some() {
                    return false;
                }
                self.writer.ring_append(&read_again(before, table));
                self.writer.ring_publish();
                true
            }
            // More went than the table remembers: from the beginning.
            Step::Lost => {
                self.stop_lagging(table);
                self.begin_rebuild();
                false
            }
        }
    }

    fn stop_lagging(&mut self, table: &mut Table) {
        if let Some(lag) = self.lag.take() {
            table.marker_release(lag.marker);
        }
    }

    fn commit(&mut self, table: &Table) {
        let (epoch, revision, digests) = (table.epoch().0, table.revision(), table.digests());
        if let Err(error) = self.writer.commit(epoch, revision.0, &digests) {
            return self.fail(&error.into());
        }
        self.revision = revision;
        if let Some(named) = &mut self.named {
            named.commit(epoch, revision.0, &digests);
        }
    }

    fn each(&mut self, change: impl Fn(&mut Writer<Object>) -> Result<(), WriteError>) {
        if let Some(rebuild) = &mut self.rebuild {
            if let Err(error) = change(&mut rebuild.writer) {
                self.rebuild_failed(&error);
            }
            return;
        }
        if self.failed.is_some() {
            return;
        }
        if let Err(error) = change(&mut self.writer) {
            return self.fail(&error);
        }
        if let Some(named) = &mut self.named {
            named.change(&change);
        }
    }

    /// Nothing can be written into the image any more: another is begun.
    fn fail(&mut self, error: &WriteError) {
        debug_assert!(self.lag.is_none(), "it isn't told anything while it is behind");
        tracing::error!("the image can't be written: {error}; it is made anew from the table");
        self.failed = Some(error.to_string());
        if let Some(named) = &mut self.named {
            named.give_up("the image failed");
        }
        self.begin_rebuild();
    }

    fn begin_rebuild(&mut self) {
        let begun = Object::create(self.settings.bytes)
            .map_err(|error: CreateError| error.to_string())
            .and_then(|object| Writer::new(object, &self.settings).map_err(|e| e.to_string()));
        match begun {
            Ok(writer) => self.rebuild = Some(Rebuild::new(writer)),
            Err(why) => self.rebuild_refused(why),
        }
    }

    fn rebuild_failed(&mut self, error: &WriteError) {
        self.rebuild_refused(error.to_string());
    }

    /// There is no room for a new one either: readers are told that no change will
    /// come, and changes that add something are refused from here on.
    fn rebuild_refused(&mut self, why: String) {
        tracing::error!("no new image: {why}; changes are refused from here on");
        self.rebuild = None;
        self.rebuild_in = REBUILD_TURNS;
        self.failed = Some(why);
        self.writer.close();
    }

    /// Goes on with the image that is made anew. True: it took the other's place.
    fn rebuild_some(&mut self, table: &Table) -> bool {
        if self.rebuild.is_none() {
            self.rebuild_in = self.rebuild_in.saturating_sub(1);
            if self.rebuild_in == 0 {
                self.begin_rebuild();
            }
            return false;
        }
        // What is staged isn't committed, and stands in the table all the same.
        let Some(rebuild) = self.rebuild.as_mut().filter(|_| !table.is_staging()) else {
            return false;
        };
        match rebuild.step(table) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => {
                self.rebuild_failed(&error);
                return false;
            }
        }
        let Some(Rebuild { mut writer, .. }) = self.rebuild.take() else { return false };
        std::mem::swap(&mut writer, &mut self.writer);
        self.writer.replaces(writer);
        (self.failed, self.revision, self.leapt) = (None, table.revision(), false);
        tracing::info!("the image was made anew, at revision {}", self.revision.0);
        true
    }

    /// Goes on with a second copy that is made anew: of what the first one shows.
    fn tend_name(&mut self, table: &Table) {
        let Some(named) = &mut self.named else { return };
        if self.failed.is_none() && !table.is_staging() {
            let bytes = self.writer.status().bytes;
            named.step(table, &Settings { bytes, ..self.settings });
        }
    }

    /// The limits have changed.
    pub(crate) fn configure(&mut self, limits: &Limits) {
        self.settings.bytes_max = limits.image_bytes_max.0;
        self.rebuild_in = self.rebuild_in.min(1);
        if let Some(rebuild) = &mut self.rebuild {
            rebuild.writer.set_bytes_max(limits.image_bytes_max.0);
        }
        self.writer.set_bytes_max(limits.image_bytes_max.0);
        if let Some(named) = &mut self.named {
            named.set_bytes_max(limits.image_bytes_max.0);
        }
    }

    /// The daemon stops in order: readers are told, the name goes.
    pub(crate) fn close(&mut self) {
        self.writer.close();
        if let Some(mut named) = self.named.take() {
            named.close();
        }
    }

    /// The image by kinds of blocks.
    pub(crate) fn parts(&self) -> Vec<Part> {
        self.writer.parts()
    }

    /// How it is.
    pub(crate) fn status(&self) -> ImageStatus<'_> {
        ImageStatus {
            status: self.writer.status(),
            name: self.named.as_ref().and_then(Named::published),
            name_failed: self.named.as_ref().and_then(Named::failed),
            revision: self.revision,
            behind: self.lag.as_ref().map_or(0, |lag| lag.records),
            refused: self.refused,
            failed: self.failed.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests;
