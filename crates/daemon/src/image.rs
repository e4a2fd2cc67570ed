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

use std::os::fd::BorrowedFd;

use rtm_image::{CreateError, Full, Object, Part, Settings, Status, WriteError, Writer};
use rtm_model::{Entity, GroupId, LinkId, NeighbourKey};
use rtm_tables::wire::DaemonFrame;
use rtm_tables::{Epoch, Flush, Hub, Record, RecordOp, Revision, RouteCursor, Table};

use crate::config::Limits;
use named::Named;

/// The smallest object: the smallest ring and the smallest heap fit.
const OBJECT_BYTES_MIN: u64 = 8 << 20;

const MIB: u64 = 1 << 20;

/// Entities that one turn brings into an image that is made anew.
const REBUILD_ENTITIES: usize = 512;
/// After a failure so many turns pass before the next try.
const REBUILD_TURNS: u32 = 4096;

/// The image and what goes with it.
pub(crate) struct Image {
    writer: Writer<Object>,
    /// The second copy, if there is to be one.
    named: Option<Named>,
    epoch: Epoch,
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
    settings: Settings,
    /// Changes that found no room.
    refused: u64,
    /// What went wrong with the named copy, to be logged once.
    pub(crate) warnings: Vec<String>,
}

/// An image that is made anew from the table, and how far it is.
struct Rebuild {
    writer: Writer<Object>,
    at: Place,
}

/// What comes next.
enum Place {
    Links(Option<LinkId>),
    Groups(Option<GroupId>),
    Neighbours(Option<NeighbourKey>),
    Routes(RouteCursor),
    End,
}

impl Rebuild {
    /// Brings some hundred entities.
    fn step(&mut self, table: &Table) -> Result<(), WriteError> {
        let store = table.store();
        for _ in 0..REBUILD_ENTITIES {
            let next = match &mut self.at {
                Place::Links(after) => store.next_link(*after).map(|link| {
                    *after = Some(link.id);
                    Entity::Link(*link)
                }),
                Place::Groups(after) => store.next_group(*after).map(|group| {
                    *after = Some(group.id);
                    Entity::Group(group.clone())
                }),
                Place::Neighbours(after) => store.next_neighbour(after.as_ref()).map(|neighbour| {
                    *after = Some(neighbour.key);
                    Entity::Neighbour(neighbour)
                }),
                Place::Routes(cursor) => store.next_route(cursor).map(Entity::Route),
                Place::End => return Ok(()),
            };
            match next {
                Some(entity) => self.writer.set(&entity)?,
                None => {
                    self.at = match self.at {
                        Place::Links(_) => Place::Groups(None),
                        Place::Groups(_) => Place::Neighbours(None),
                        Place::Neighbours(_) => Place::Routes(RouteCursor::all()),
                        Place::Routes(_) | Place::End => Place::End,
                    }
                }
            }
        }
        Ok(self.writer.tend()?)
    }
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
            epoch: table.epoch(),
            revision: table.revision(),
            leapt: false,
            failed: None,
            rebuild: None,
            rebuild_in: 0,
            settings,
            refused: 0,
            warnings,
        })
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
    pub(crate) fn room_for(&mut self, records: u64) -> Result<(), String> {
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
    pub(crate) fn would_fit(&mut self, changes: u64) -> Result<(), String> {
        self.writable()?.would_fit(changes).map_err(|error| full(&error))
    }

    /// A change found no room, and was refused.
    pub(crate) fn refuse(&mut self) {
        self.refused += 1;
    }

    /// Who writes: the image, or what is made in its place.
    fn writable(&mut self) -> Result<&mut Writer<Object>, String> {
        match (&self.failed, &mut self.rebuild) {
            (None, _) => Ok(&mut self.writer),
            (Some(_), Some(rebuild)) => Ok(&mut rebuild.writer),
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
        if self.failed.is_some() || self.writer.reserve(records).is_ok() {
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
        let (kind, body) = (record.kind, record.body);
        self.each(|writer| match record.op {
            RecordOp::Set => writer.set_bytes(kind, body),
            RecordOp::Delete => writer.delete_bytes(kind, body),
        });
    }

    /// A whole flush.
    pub(crate) fn flush(&mut self, what: Flush) {
        self.each(|writer| writer.flush(what.routes, what.neighbours));
    }

    /// A large load is committed: all of it was told by `record` before.
    pub(crate) fn leap(&mut self) {
        self.leapt = true;
    }

    /// Is there something to go on with, whether changes come or not?
    pub(crate) fn has_work(&self, table: &Table) -> bool {
        match &self.rebuild {
            Some(_) => !table.is_staging(),
            None if self.failed.is_some() => false,
            None => {
                let named = self.named.as_ref().is_some_and(Named::has_work);
                self.writer.is_growing() || named && !table.is_staging()
            }
        }
    }

    /// Makes visible what the turn has brought. True: something was.
    pub(crate) fn publish(&mut self, table: &Table, hub: &Hub) -> bool {
        if self.failed.is_some() {
            return self.rebuild_some(table);
        }
        let before = self.revision;
        if table.revision() == before {
            if self.writer.is_growing() || self.named.as_ref().is_some_and(Named::has_work) {
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
            let (revision, digests) = (table.revision(), table.digests());
            DaemonFrame::Begin { from: before }.encode(&mut again);
            DaemonFrame::End { revision, digests }.encode(&mut again);
        }
        let named = self.named.as_mut().and_then(Named::writer);
        for writer in [Some(&mut self.writer), named].into_iter().flatten() {
            if again.is_empty() {
                hub.unpublished(&mut |frames| writer.ring_append(frames));
            } else {
                writer.ring_append(&again);
            }
            writer.ring_publish();
        }
        self.tend_name(table);
        true
    }

    fn commit(&mut self, table: &Table) {
        let (epoch, revision, digests) = (self.epoch.0, table.revision(), table.digests());
        if let Err(error) = self.writer.commit(epoch, revision.0, &digests) {
            return self.fail(&error.into());
        }
        self.revision = revision;
        if let Some(named) = &mut self.named {
            named.commit(epoch, revision.0, &digests);
        }
    }

    fn each(&mut self, change: impl Fn(&mut Writer<Object>) -> Result<(), WriteError>) {
        if self.failed.is_some() {
            let Some(rebuild) = &mut self.rebuild else { return };
            if let Err(error) = change(&mut rebuild.writer) {
                self.rebuild_failed(&error);
            }
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
        tracing::error!("the image can't be written: {error}; it is made anew from the table");
        self.failed = Some(error.to_string());
        if let Some(named) = &mut self.named {
            named.give_up("the image failed");
        }
        self.begin_rebuild();
    }

    fn begin_rebuild(&mut self) {
        let settings = Settings { bytes_max: self.settings.bytes_max, ..self.settings };
        let begun = Object::create(settings.bytes)
            .map_err(|error: CreateError| error.to_string())
            .and_then(|object| Writer::new(object, &settings).map_err(|e| e.to_string()));
        match begun {
            Ok(writer) => self.rebuild = Some(Rebuild { writer, at: Place::Links(None) }),
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
        if let Err(error) = rebuild.step(table) {
            self.rebuild_failed(&error);
            return false;
        }
        if !matches!(rebuild.at, Place::End) {
            return false;
        }
        let (epoch, revision, digests) = (self.epoch.0, table.revision(), table.digests());
        if let Err(error) = rebuild.writer.commit(epoch, revision.0, &digests) {
            self.rebuild_failed(&error.into());
            return false;
        }
        let Some(Rebuild { mut writer, .. }) = self.rebuild.take() else { return false };
        std::mem::swap(&mut writer, &mut self.writer);
        self.writer.replaces(writer);
        (self.failed, self.revision, self.leapt) = (None, revision, false);
        tracing::info!("the image was made anew, at revision {}", revision.0);
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
            refused: self.refused,
            failed: self.failed.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rtm_image::{Reader, WriterState};
    use rtm_model::text::{Command, Context, parse_line};
    use rtm_model::{DigestKey, Route, RouteKey};
    use rtm_tables::{HubLimits, RecordSink, SourceId, SourceSpec, TableLimits};

    use super::*;
    use crate::config::Config;

    struct World {
        table: Table,
        hub: Hub,
        image: Image,
        source: SourceId,
    }

    struct Sink<'a>(&'a mut Image, &'a mut Hub);

    impl RecordSink for Sink<'_> {
        fn record(&mut self, record: &Record<'_>) {
            self.0.record(record);
            self.1.record(record);
        }

        fn flush(&mut self, revision: Revision, what: Flush) {
            self.0.flush(what);
            self.1.flush(revision, what);
        }

        fn leap(&mut self, revision: Revision) {
            self.0.leap();
            self.1.leap(revision);
        }
    }

    impl World {
        fn new() -> World {
            let key = DigestKey([1, 2]);
            let mut table = Table::new(Epoch(9), key, TableLimits::default());
            let hub = Hub::new(&table, key, HubLimits::default());
            let mut limits = Config::default().limits;
            limits.image_ring_bytes.0 = 1 << 16;
            let image = Image::new(&limits, &table, key.0, None).unwrap();
            let source = table.source(SourceSpec::admin()).unwrap();
            World { table, hub, image, source }
        }

        fn change(&mut self, line: &str) {
            let parsed = parse_line(line, &Context::default()).unwrap().unwrap().1;
            let Command::Change(change) = parsed else { panic!("{line}") };
            let mut sink = Sink(&mut self.image, &mut self.hub);
            self.table.apply(self.source, &change, &mut sink).unwrap();
        }

        fn turn(&mut self) -> bool {
            let visible = self.image.publish(&self.table, &self.hub);
            self.hub.publish(&mut self.table, 1000);
            visible
        }

        fn attach(&self) -> Reader {
            Reader::attach(self.image.descriptor().try_clone_to_owned().unwrap()).unwrap()
        }

        /// What the image shows is what the table holds.
        fn compare(&self) {
            let reader = self.attach();
            let state = reader.state().unwrap();
            assert_eq!(state.revision, self.table.revision().0);
            assert_eq!(state.digests, self.table.digests());
            let mut cursor = RouteCursor::all();
            let mut routes: Vec<Route> = Vec::new();
            while let Some(route) = self.table.store().next_route(&mut cursor) {
                routes.push(route);
            }
            let shown = reader.routes4(None).chain(reader.routes6(None));
            assert_eq!(shown.map(Result::unwrap).collect::<Vec<_>>(), routes);
            let mut groups = Vec::new();
            while let Some(group) =
                self.table.store().next_group(groups.last().map(|g: &rtm_model::Group| g.id))
            {
                groups.push(group.clone());
            }
            assert_eq!(reader.groups().map(Result::unwrap).collect::<Vec<_>>(), groups);
            let counts = self.table.counts().store;
            assert_eq!(state.neighbours, counts.neighbours as u64);
            for route in &routes {
                let address = route.key.prefix.address();
                let found = reader.lookup_route(route.key.table, address).unwrap().unwrap();
                assert!(found.key.prefix.len() >= route.key.prefix.len());
            }
        }
    }

    fn full() -> WriteError {
        WriteError::Full(Full::Limit { bytes: 2, limit: 1 })
    }

    #[test]
    fn after_a_failed_write_it_is_made_anew_in_slices() {
        let mut world = World::new();
        for n in 0..3000_u32 {
            let (b, c) = (n / 256, n % 256);
            world.change(&format!("route add 10.{b}.{c}.0/24 via 192.0.2.{} dev e", 1 + n % 7));
            if n % 10 == 0 {
                world.change(&format!("route add 2001:db8:{n:x}::/48 dev e table 7"));
                world.change(&format!("neigh add 10.0.{b}.{c} lladdr 02:00:00:00:00:01 dev e"));
            }
        }
        assert!(world.turn());
        world.compare();
        let (before, revision) = (world.attach(), world.table.revision().0);
        let mut ring = before.ring();
        world.image.fail(&full());
        // Changes go on in the middle of it: behind the walk, and before it.
        let mut turns = 0;
        while world.image.failed.is_some() {
            assert_eq!(world.image.room_for(10), Ok(()));
            assert!(world.image.has_work(&world.table));
            world.change(&format!("route replace 10.0.{turns}.0/24 via 198.51.100.1 dev f"));
            world.change(&format!("route del 10.{}.0.0/24", turns % 9 + 1));
            world.change(&format!("route add blackhole 10.{}.0.0/24", turns % 9 + 1));
            let state = before.state().unwrap();
            assert_eq!((state.revision, before.writer().unwrap()), (revision, WriterState::Live));
            world.turn();
            turns += 1;
        }
        assert!(turns > 5, "{turns} turns: {REBUILD_ENTITIES} entities each");
        let after = world.attach();
        assert_eq!(before.writer().unwrap(), WriterState::Moved { successor: after.header().id });
        assert_eq!(before.state().unwrap().revision, revision, "it keeps what it has");
        world.compare();
        world.change("route add 203.0.113.0/24 dev e");
        assert!(world.turn());
        world.compare();
        // Who followed the ring takes its place along, and is told to read the tables.
        let position = ring.position();
        assert!(ring.read(&mut Vec::new()).is_ok());
        let mut ring = after.ring_at(position);
        assert_eq!(ring.read(&mut Vec::new()), Err(rtm_image::Lapped));
        let key = RouteKey::main("203.0.113.0/24".parse().unwrap());
        assert!(after.route(&key).unwrap().is_some());
    }

    #[test]
    fn where_no_new_one_finds_room_changes_are_refused_until_it_does() {
        let mut world = World::new();
        for n in 0..100 {
            world.change(&format!("route add 10.0.{n}.0/24 dev e"));
        }
        assert!(world.turn());
        let before = world.attach();
        world.image.fail(&full());
        world.image.rebuild_failed(&full());
        assert_eq!(before.writer().unwrap(), WriterState::Closed);
        assert!(world.image.room_for(1).unwrap_err().contains("can't be written"));
        assert!(!world.image.has_work(&world.table));
        // Deletes are taken.
        assert_eq!(world.image.room_for_deletes(10, &world.table), 10);
        world.change("route del 10.0.7.0/24");
        world.turn();
        // A larger limit: at once another try.
        world.image.configure(&Config::default().limits);
        for _ in 0..10 {
            world.turn();
        }
        assert_eq!(world.image.room_for(1), Ok(()));
        world.compare();
    }

    /// A copy by name that can't be written loses its name, is made anew, and has
    /// the name again when it shows what the table holds.
    #[test]
    fn a_name_that_failed_is_published_again() {
        let name = format!("/rtm-test-{}-image", std::process::id());
        let mut world = World::new();
        let limits = Config::default().limits;
        world.image = Image::new(&limits, &world.table, [1, 2], Some(&name)).unwrap();
        for n in 0..3000_u32 {
            let (b, c) = (n / 256, n % 256);
            world.change(&format!("route add 10.{b}.{c}.0/24 via 192.0.2.{} dev e", 1 + n % 7));
        }
        assert!(world.turn());
        let open = || rtm_image::open_name(&name).map(|fd| Reader::attach(fd).unwrap());
        let shown = |reader: Reader| reader.state().map(|state| (state.revision, state.digests));
        let first = open().unwrap();
        assert_eq!(first.state().unwrap().revision, world.table.revision().0);
        for round in 0..2 {
            world.image.named.as_mut().unwrap().give_up("no room");
            let status = world.image.status();
            assert_eq!((status.name, status.failed), (None, None), "the first copy goes on");
            assert!(status.name_failed.unwrap().contains("no room"));
            assert_eq!(first.writer().unwrap(), WriterState::Closed);
            let mut turns = 0;
            while world.image.status().name.is_none() {
                assert!(open().is_err(), "it isn't there before it shows everything");
                world.change(&format!("route replace 10.0.{turns}.0/24 dev e{round}"));
                world.turn();
                turns += 1;
                assert!(turns < 1000);
            }
            assert!(turns > 5, "{turns} turns: {REBUILD_ENTITIES} entities each");
            let expected = (world.table.revision().0, world.table.digests());
            assert_eq!(shown(open().unwrap()), Ok(expected));
            world.compare();
        }
        // And it is told what comes.
        world.change("route add 203.0.113.0/24 dev e");
        assert!(world.turn());
        let key = RouteKey::main("203.0.113.0/24".parse().unwrap());
        assert!(open().unwrap().route(&key).unwrap().is_some());
        // Tried in vain it waits, until the limits change.
        let named = world.image.named.as_mut().unwrap();
        named.give_up("no room");
        named.give_up("no room for a new one either");
        for _ in 0..100 {
            world.turn();
        }
        assert_eq!(world.image.status().name, None);
        world.image.configure(&limits);
        for _ in 0..20 {
            world.turn();
        }
        assert_eq!(world.image.status().name, Some(name.as_str()));
        world.image.close();
        assert!(open().is_err());
    }
}
