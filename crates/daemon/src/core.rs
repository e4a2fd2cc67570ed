//! What all stages of a turn work on: the table, the hub, and what waits for
//! either.
//!
//! Changes come in by [`Core::apply`] and the transactions and staged loads
//! beside it; records go to the hub, and past those who `wait` for a route.

use rtm_model::{Change, Names, Verb};
use rtm_tables::{
    Applied, ChangeError, Distances, Flush, Hub, Millis, Record, RecordSink, Revision, SourceClass,
    SourceId, SourceSpec, Table,
};

use crate::config::Config;
use crate::feeds::commands::Feeds;
use crate::feeds::export::ExportState;
use crate::feeds::fpm::PeerFacts;
use crate::feeds::kernel::KernelState;
use crate::image::Image;
use crate::requests::wait::Waits;
use crate::wakeup::ClientToken;

/// Groups that a stream left without users go when that was twice as long ago, at the
/// latest, and once as long at the earliest: in a disturbance most of them come back
/// within it.
const LINGER_MS: Millis = 500;
/// And so many linger, at most: more than come and go in the seconds of a disturbance, few
/// enough to go within one turn.
const LINGERING_MAX: usize = 1024;

/// Who asks for something.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Requester {
    /// A connection.
    Client(ClientToken),
    /// The console.
    Console,
    /// The file of `--load`.
    Loader,
    /// The message queue.
    Queue,
    /// The FIFO.
    Fifo,
    /// A zebra.
    Fpm,
    /// This host's kernel.
    Kernel,
}

/// What is counted since the start, for `rtm stat`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// Changes that were applied.
    pub(crate) changes: u64,
    /// Changes that made no difference.
    pub(crate) unchanged: u64,
    /// Changes that were refused.
    pub(crate) refused: u64,
    /// Requests.
    pub(crate) requests: u64,
    /// Bytes read from connections.
    pub(crate) bytes_in: u64,
    /// Bytes written to connections.
    pub(crate) bytes_out: u64,
    /// Connections accepted.
    pub(crate) accepted: u64,
    /// Connections refused: too many.
    pub(crate) refused_connections: u64,
    /// Registrations refused: the pid was not the peer's.
    pub(crate) registrations_refused: u64,
    /// Wrong proofs of the secret.
    pub(crate) proofs_refused: u64,
    /// Requests and loads that were not understood or refused, the console's among
    /// them.
    pub(crate) requests_refused: u64,
    /// Connections ended because their bytes were wrong.
    pub(crate) protocol_errors: u64,
    /// Classic sessions ended because they fell behind the oldest tombstone.
    pub(crate) fell_behind: u64,
}

impl Counters {
    /// Counts what came of a change.
    fn count(&mut self, result: &Result<Applied, ChangeError>) {
        match result {
            Ok(Applied::Changed(_)) => self.changes += 1,
            Ok(Applied::Unchanged) => self.unchanged += 1,
            Err(_) => self.refused += 1,
        }
    }
}

/// The tables, the sessions' shared part, and what goes with them.
pub(crate) struct Core {
    /// The tables.
    pub(crate) table: Table,
    /// What all sessions share.
    pub(crate) hub: Hub,
    /// The tables in shared memory.
    pub(crate) image: Image,
    /// The source that console, command and plain loads write.
    pub(crate) admin: SourceId,
    /// The configuration in force.
    pub(crate) config: Config,
    /// Names in force on this host.
    pub(crate) names: Names,
    /// Who waits for a route or a neighbour.
    pub(crate) waits: Waits,
    /// Who has the tables for itself: a large atomic load, a flush of much, a
    /// digest over everything. Others' changes wait.
    holder: Option<Requester>,
    /// Since when a hold is there only to read.
    reading: Option<Millis>,
    /// Nobody has the tables only to read them before this.
    reads_from: Millis,
    /// When the groups that linger are looked at next.
    collect_at: Option<Millis>,
    /// Of these the first, so many, were there at the last look.
    lingered: usize,
    /// A hold was released since the last look.
    released: bool,
    /// Somebody wants the configuration to be read again.
    pub(crate) reload_asked: bool,
    /// Somebody wants every descriptor listed.
    pub(crate) inventory_asked: bool,
    /// What came in without a session, and what of it was rejected.
    pub(crate) feeds: Feeds,
    /// What is known of each zebra.
    pub(crate) fpm: Vec<PeerFacts>,
    /// Flushes of all routes so far: who can tell them again is asked to.
    pub(crate) route_flushes: u64,
    /// What is known of the kernel's feed.
    pub(crate) kernel: KernelState,
    /// What is known of the export.
    pub(crate) export: ExportState,
    /// A file is being loaded since the start.
    pub(crate) loading: bool,
    /// Whole flushes of anything so far: clients are signalled, the kernel is asked again.
    pub(crate) flushes: u64,
    /// Of these, those of both tables: only they are signalled to classic clients.
    pub(crate) flushes_of_all: u64,
    /// What is counted.
    pub(crate) counters: Counters,
    /// The turn's number.
    pub(crate) turn: u64,
    /// The turn's time, in milliseconds since the start.
    pub(crate) now: Millis,
}

impl Core {
    /// All that comes of a configuration.
    pub(crate) fn new(
        mut table: Table,
        hub: Hub,
        image: Image,
        config: Config,
        names: Names,
    ) -> Core {
        let admin = match table.source(admin_spec(&config)) {
            Ok(admin) => admin,
            Err(error) => unreachable!("the first source of all finds no room: {error}"),
        };
        Core {
            table,
            hub,
            image,
            admin,
            config,
            names,
            waits: Waits::default(),
            holder: None,
            reading: None,
            reads_from: 0,
            collect_at: None,
            lingered: 0,
            released: false,
            reload_asked: false,
            inventory_asked: false,
            feeds: Feeds::default(),
            fpm: Vec::new(),
            route_flushes: 0,
            kernel: KernelState::default(),
            export: ExportState::default(),
            loading: false,
            flushes: 0,
            flushes_of_all: 0,
            counters: Counters::default(),
            turn: 0,
            now: 0,
        }
    }

    /// Takes another configuration for what comes from here on.
    pub(crate) fn configure(&mut self, config: Config) {
        // `admin` is known: this can't find too many sources.
        let _ = self.table.source(admin_spec(&config));
        self.image.configure(&config.limits);
        self.config = config;
    }

    /// The source of a file loaded with this name.
    pub(crate) fn file_source(&mut self, name: &str) -> Result<SourceId, String> {
        let taken = self
            .table
            .sources()
            .any(|source| source.spec.name == name && source.spec.class != SourceClass::File);
        if taken {
            return Err(format!(
                "source {name}: the name belongs to another kind of source; another name would be right"
            ));
        }
        let mut spec = SourceSpec::file(name);
        spec.distances = Distances::all(self.config.distance.files());
        self.table.source(spec).map_err(|error| format!("source {name}: {error}"))
    }

    /// May `who` change the tables now? If not: when the hold is released.
    pub(crate) fn may_change(&self, who: Requester) -> bool {
        self.holder.is_none_or(|holder| holder == who)
    }

    /// Does anybody have the tables for itself?
    pub(crate) fn is_held(&self) -> bool {
        self.holder.is_some()
    }

    /// Takes the tables for itself; false: somebody else has them.
    pub(crate) fn hold(&mut self, who: Requester) -> bool {
        if !self.may_change(who) {
            return false;
        }
        self.holder = Some(who);
        true
    }

    /// As [`Core::hold`], only to read: anybody may ask for that, so changes get
    /// as much time afterwards as it takes. `Err`: not before then; `None`: when
    /// the hold is released.
    pub(crate) fn hold_to_read(&mut self, who: Requester) -> Result<(), Option<Millis>> {
        if self.holder == Some(who) {
            return Ok(());
        }
        if self.now < self.reads_from {
            return Err(Some(self.reads_from));
        }
        if !self.hold(who) {
            return Err(None);
        }
        self.reading = Some(self.now);
        Ok(())
    }

    /// Gives them back.
    pub(crate) fn release(&mut self, who: Requester) {
        if self.holder == Some(who) {
            if let Some(since) = self.reading.take() {
                self.reads_from = self.now + (self.now - since) + 1;
            }
            self.holder = None;
            self.released = true;
        }
    }

    /// Was a hold released since the last call? Then those who waited go on.
    pub(crate) fn take_released(&mut self) -> bool {
        std::mem::take(&mut self.released)
    }

    /// Applies one change as a transaction of its own.
    pub(crate) fn apply(
        &mut self,
        source: SourceId,
        change: &Change,
    ) -> Result<Applied, ChangeError> {
        let result = self.room_for(std::slice::from_ref(change)).and_then(|()| {
            let (table, mut out) = self.parts();
            table.apply(source, change, &mut out)
        });
        self.counters.count(&result);
        result
    }

    /// Applies changes, each as a transaction of its own; `came` is told what
    /// came of each and says whether to go on.
    pub(crate) fn apply_many(
        &mut self,
        source: SourceId,
        changes: &[Change],
        came: &mut dyn FnMut(&Change, Result<Applied, ChangeError>) -> bool,
    ) {
        if self.find_room(changes).is_err() {
            // One after another, as far as there is room.
            for change in changes {
                let result = self.apply(source, change);
                if !came(change, result) {
                    return;
                }
            }
            return;
        }
        let Core { table, hub, image, waits, counters, .. } = self;
        let mut tap = Tap { hub, image, waits };
        table.apply_many(source, changes, &mut tap, &mut |change, result| {
            counters.count(&result);
            came(change, result)
        });
    }

    /// Is there room for these changes, wherever the tables are kept? To be asked
    /// before any of them is applied.
    pub(crate) fn room_for(&mut self, changes: &[Change]) -> Result<(), ChangeError> {
        self.find_room(changes).inspect_err(|_| self.image.refuse())
    }

    /// As [`Core::room_for`], but a refusal isn't counted: it is asked again.
    fn find_room(&mut self, changes: &[Change]) -> Result<(), ChangeError> {
        let adding: usize = changes.iter().filter(|change| adds(change)).map(weight).sum();
        if adding == 0 {
            self.image.room_for_deletes(changes.len(), &self.table);
            return Ok(());
        }
        let room = self.image.room_for((adding + changes.len()) as u64, &self.table);
        room.map_err(|why| ChangeError::NoRoom { why })
    }

    /// The same for a load of so many changes that is applied later, in slices.
    pub(crate) fn would_fit(&mut self, changes: u64) -> Result<(), ChangeError> {
        self.image.would_fit(changes, &self.table).map_err(|why| {
            self.image.refuse();
            ChangeError::NoRoom { why }
        })
    }

    /// Goes on with what takes many deletes (sweeps) for about `budget` of them, and with
    /// groups that linger. True: there is more.
    pub(crate) fn sweep(&mut self, budget: usize) -> bool {
        if self.table.lingering() > 0 || self.collect_at.is_some() {
            self.collect();
        }
        if !self.table.has_sweeps() {
            return false;
        }
        let budget = self.image.room_for_deletes(budget, &self.table);
        let (table, mut out) = self.parts();
        table.sweep(budget, &mut out)
    }

    /// Groups that have lingered for a while go, and the oldest of too many.
    fn collect(&mut self) {
        let due = match self.collect_at {
            None => {
                self.collect_at = Some(self.now + LINGER_MS);
                false
            }
            Some(at) => at <= self.now,
        };
        let lingering = self.table.lingering();
        let many = if lingering > LINGERING_MAX { lingering - LINGERING_MAX / 2 } else { 0 };
        self.collect_first(if due { self.lingered.max(many) } else { many });
        if due {
            self.lingered = self.table.lingering();
            self.collect_at = (self.lingered > 0).then_some(self.now + LINGER_MS);
        }
    }

    /// A stream has ended: what it left behind goes with it, so that nothing moves later by
    /// itself.
    pub(crate) fn stream_ended(&mut self) {
        self.collect_first(self.table.lingering());
    }

    fn collect_first(&mut self, count: usize) {
        if count == 0 || self.table.is_staging() {
            return;
        }
        let count = self.image.room_for_deletes(count, &self.table);
        let (table, mut out) = self.parts();
        table.collect(count, &mut out);
        self.lingered = self.lingered.saturating_sub(count);
    }

    /// When [`Core::sweep`] wants to be called at the latest.
    pub(crate) fn poll_timeout(&self) -> Option<Millis> {
        self.collect_at
    }

    /// Have all sources offered what they have?
    pub(crate) fn sources_are_settled(&self) -> bool {
        !self.loading && self.table.sources().all(|source| !source.in_generation)
    }

    /// The table, and where its records go.
    pub(crate) fn parts(&mut self) -> (&mut Table, Tap<'_>) {
        let Core { table, hub, image, waits, .. } = self;
        (table, Tap { hub, image, waits })
    }
}

/// Does a change add anything?
fn adds(change: &Change) -> bool {
    let verb = match change {
        Change::Route(verb, _)
        | Change::Neighbour(verb, _)
        | Change::Link(verb, _)
        | Change::Group(verb, _) => *verb,
    };
    verb != Verb::Delete
}

/// How many records a change makes, about: its next hops may bring links and a
/// group of their own.
fn weight(change: &Change) -> usize {
    match change {
        Change::Route(_, spec) => 3 + spec.hops.as_slice().len(),
        Change::Group(_, spec) => 2 + spec.hops.len(),
        Change::Neighbour(..) => 3,
        Change::Link(..) => 1,
    }
}

fn admin_spec(config: &Config) -> SourceSpec {
    let mut spec = SourceSpec::admin();
    spec.distances = Distances::all(config.distance.admin());
    spec
}

/// Records on their way to image and hub, past those who wait for one.
pub(crate) struct Tap<'a> {
    hub: &'a mut Hub,
    image: &'a mut Image,
    waits: &'a mut Waits,
}

impl RecordSink for Tap<'_> {
    fn record(&mut self, record: &Record<'_>) {
        if !self.waits.is_empty() {
            self.waits.record(record);
        }
        self.image.record(record);
        self.hub.record(record);
    }

    fn staged(&mut self, record: &Record<'_>) {
        self.image.record(record);
    }

    fn flush(&mut self, revision: Revision, what: Flush) {
        self.waits.touch_all();
        self.image.flush(what);
        self.hub.flush(revision, what);
    }

    fn leap(&mut self, revision: Revision) {
        self.waits.touch_all();
        self.image.leap();
        self.hub.leap(revision);
    }
}
