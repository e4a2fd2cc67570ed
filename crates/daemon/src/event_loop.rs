//! The loop: one thread, one epoll, one fixed list of stages.
//!
//! ```text
//!   wait ──> orders   signals, the console's lines
//!            feeds    connections, file, queue, FIFO and FPM are read; changes are applied
//!            jobs     listings, staged loads, barriers: one slice each
//!            upkeep   sweeps, what a flush left behind: one slice
//!            publish  the turn's records become visible: in the image, then to
//!                     the sessions
//!            send     subscribers first, then answers, then who is far behind
//!            timers   heartbeats, late hellos, `wait --timeout`
//!            doors    who came is let in, who ended is closed
//!      ^                                                    │
//!      └────────────────────────────────────────────────────┘
//! ```
//!
//! Level-triggered: what isn't read within a stage's budget is reported again,
//! or stands in a queue that keeps the loop from sleeping. For one lone change
//! a turn is: wait, read, apply, write to each subscriber, write the answer.

use std::rc::Rc;
use std::time::{Duration, Instant};

use ipc::epoll::{Epoll, Events, Interest};
use ipc::heap::Heap;
use rtm_tables::Millis;
use rtm_tables::wire::GoodbyeReason;

use crate::clients::Clients;
use crate::clients::accept::{Listener, Reserve};
use crate::config::Overrides;
use crate::console::Console;
use crate::core::Core;
use crate::feeds::export::Export;
use crate::feeds::fifo::Fifo;
use crate::feeds::fpm::Fpm;
use crate::feeds::kernel::Kernel;
use crate::feeds::queue::Queue;
use crate::file_load::Loader;
use crate::inventory::Row;
use crate::requests::Reply;
use crate::requests::status::Facts;
use crate::roles::Admins;
use crate::signals::{Order, Signals};
use crate::systemd::ServiceManager;
use crate::turn::{Stage, TurnClock, TurnStats};
use crate::wakeup::Wakeup as W;
use crate::wakeup::{ClientToken, Wakeup};

/// Reading and applying in one turn.
const FEEDS: Duration = Duration::from_micros(1200);
/// Answers that take several turns.
const JOBS: Duration = Duration::from_micros(800);
/// Entities that sweeps and tidying look at in one turn.
const UPKEEP: usize = 512;
/// From so many routes on the heap is worth huge pages.
const HUGE_FROM: usize = 20_000;
/// Entities that are encoded for snapshots in one turn.
const PUBLISH: usize = 2048;
/// And while single changes come: they wait for as long as this takes.
const PUBLISH_LIVE: usize = 512;
/// What the export looks at in one turn.
const EXPORT: Duration = Duration::from_micros(600);
/// Writing to sockets in one turn.
const SEND: Duration = Duration::from_micros(1500);
/// And to those who have far more to get, while single changes come.
const SEND_LIVE: Duration = Duration::from_micros(200);
/// They come if a turn within this time had one.
const LIVE_MS: Millis = 20;
/// A turn with more than these had a burst.
const FEW: u64 = 128;
/// Clients whose timers are looked at in one turn.
const TIMERS: usize = 256;

/// What one wait reports at most.
const EVENTS: usize = 256;

/// How long the sessions are given to get everything when the daemon stops.
const DRAIN_MS: Millis = 1_000;
/// And how long their goodbyes are given.
const GOODBYES_MS: Millis = 1_000;

/// The end has begun.
struct Drain {
    /// Who hasn't got everything by then isn't waited for.
    deadline: Millis,
    /// Goodbyes were said.
    said: bool,
}

/// What woke this turn, beside connections.
#[derive(Default)]
struct Woken {
    unix: bool,
    tcp: bool,
    classic: bool,
    signal: bool,
    console_input: bool,
    console_room: bool,
    loader: bool,
    queue: bool,
    fifo: bool,
    fpm_listener: bool,
    fpm: bool,
    kernel: bool,
    export: bool,
}

/// The daemon.
pub(crate) struct Daemon {
    pub(crate) epoll: Rc<Epoll>,
    pub(crate) start: Instant,
    pub(crate) core: Core,
    pub(crate) clients: Clients,
    pub(crate) unix: Option<Listener>,
    pub(crate) tcp: Option<Listener>,
    pub(crate) classic: Option<Listener>,
    pub(crate) admins: Admins,
    pub(crate) reserve: Reserve,
    pub(crate) signals: Signals,
    pub(crate) console: Option<Console>,
    pub(crate) loader: Option<Loader>,
    pub(crate) queue: Option<Queue>,
    pub(crate) fifo: Option<Fifo>,
    pub(crate) fpm: Option<Fpm>,
    pub(crate) kernel: Option<Kernel>,
    pub(crate) export: Option<Export>,
    pub(crate) overrides: Overrides,
    pub(crate) facts: Facts,
    pub(crate) manager: ServiceManager,
    pub(crate) turns: TurnStats,
    pub(crate) heap: Heap,
}

/// What the loop itself remembers from turn to turn.
struct Memory {
    /// The revision that was published last.
    published: u64,
    /// Until then single changes are taken to come.
    live_until: Millis,
    /// Whole flushes that the clients were signalled.
    flushes: u64,
    flushes_of_all: u64,
    /// There is more to sweep or to tidy.
    upkeep: bool,
    /// Time was up while more could be applied.
    feeding: bool,
    /// Nobody is accepted before this: there are no descriptors.
    closed_until: Option<Millis>,
    drain: Option<Drain>,
}

impl Daemon {
    /// Watches what there is from the start.
    pub(crate) fn watch(&mut self) -> Result<(), ipc::epoll::Error> {
        self.epoll.add(self.signals.fd(), W::Signal.number(), Interest::READ)?;
        for listener in [&self.unix, &self.tcp, &self.classic].into_iter().flatten() {
            self.epoll.add(listener, listener.wakeup().number(), Interest::READ)?;
        }
        if let Some(loader) = &self.loader {
            self.epoll.add(loader.event(), W::Loader.number(), Interest::READ)?;
        }
        if let Some(queue) = &self.queue {
            queue.watch(&self.epoll)?;
        }
        if let Some(fifo) = &self.fifo {
            fifo.watch(&self.epoll)?;
        }
        if let Some(fpm) = &self.fpm {
            fpm.watch()?;
        }
        if let Some(kernel) = &self.kernel {
            kernel.watch(&self.epoll)?;
        }
        if let Some(export) = &self.export {
            export.watch(&self.epoll)?;
        }
        if let Some(console) = &self.console {
            self.epoll.add(console.room(), W::ConsoleRoom.number(), Interest::READ)?;
        }
        self.watch_console();
        Ok(())
    }

    /// Turn after turn, to the end.
    pub(crate) fn run(&mut self) -> Result<(), ipc::SystemError> {
        let mut events = Events::with_capacity(EVENTS);
        let mut memory = Memory {
            published: self.core.table.revision().0,
            live_until: 0,
            flushes: self.core.flushes,
            flushes_of_all: self.core.flushes_of_all,
            upkeep: false,
            feeding: false,
            closed_until: None,
            drain: None,
        };
        loop {
            let sleep = self.sleep(&memory);
            let woke = self.epoll.wait(&mut events, sleep)?;
            if woke == 0 && sleep != Some(Duration::ZERO) {
                self.turns.woke_in_time();
            }
            let mut clock = TurnClock::start();
            self.core.now = self.now();
            self.core.turn += 1;
            self.core.hub.begin_turn(self.core.now);
            let woken = self.note(&events);

            self.orders(&woken, &mut memory);
            clock.ended(Stage::Orders, false, &mut self.turns);

            let late = self.feed(&woken, &mut memory, clock.last() + FEEDS);
            clock.ended(Stage::Feeds, late, &mut self.turns);

            let late = self.run_jobs(&woken, clock.last() + JOBS);
            clock.ended(Stage::Jobs, late, &mut self.turns);

            memory.upkeep = self.core.sweep(UPKEEP);
            memory.upkeep |= self.core.table.tidy(UPKEEP);
            let held = self.core.table.store().counts();
            if held.routes4 + held.routes6 >= HUGE_FROM {
                self.heap.advise();
            }
            clock.ended(Stage::Upkeep, memory.upkeep, &mut self.turns);

            self.export_some(&woken, &memory);
            let late = self.publish(&mut memory);
            clock.ended(Stage::Publish, late, &mut self.turns);

            self.clients.tell_rejections(&mut self.core);
            if std::mem::replace(&mut memory.flushes, self.core.flushes) != self.core.flushes {
                let all = self.core.flushes_of_all;
                self.clients.flushed(std::mem::replace(&mut memory.flushes_of_all, all) != all);
            }
            // Before anything of this turn is written.
            self.clients.signal_some();
            let bulk = (self.core.now < memory.live_until).then_some(SEND_LIVE);
            let late = self.clients.send_some(&mut self.core, clock.last() + SEND, bulk);
            clock.ended(Stage::Send, late, &mut self.turns);

            let late = self.clients.handle_timeouts(&mut self.core, TIMERS);
            if let Some(console) = &mut self.console {
                console.handle_timeout(self.core.now);
            }
            if let Some(fifo) = &mut self.fifo {
                fifo.handle_timeout(&mut self.core);
            }
            if let Some(fpm) = &mut self.fpm {
                fpm.handle_timeout(&mut self.core);
            }
            if let Some(kernel) = &mut self.kernel {
                memory.feeding |= kernel.handle_timeout(&mut self.core);
            }
            clock.ended(Stage::Timers, late, &mut self.turns);

            self.doors(&woken, &mut memory);
            clock.ended(Stage::Doors, false, &mut self.turns);
            clock.finish(&mut self.turns);

            if self.drained(&mut memory) {
                return Ok(());
            }
        }
    }

    /// Milliseconds since the start.
    fn now(&self) -> Millis {
        self.start.elapsed().as_millis() as Millis
    }

    /// How long to wait: not at all if a queue holds something, else to the
    /// next deadline.
    fn sleep(&self, memory: &Memory) -> Option<Duration> {
        let busy = memory.upkeep
            || memory.feeding
            || memory.published != self.core.table.revision().0
            || self.core.hub.has_work()
            || self.core.image.has_work(&self.core.table, self.core.now)
            || self.core.image.owes_wake()
            || self.export.as_ref().is_some_and(|export| export.has_work(&self.core))
            || self.core.reload_asked
            || self.clients.has_work()
            || self.console.as_ref().is_some_and(Console::has_work);
        if busy {
            return Some(Duration::ZERO);
        }
        let drain = memory.drain.as_ref().map(|drain| match drain.said {
            // Looked at often, as nothing tells that a session has caught up.
            false => drain.deadline.min(self.core.now + 10),
            true => drain.deadline,
        });
        let deadline = [
            self.clients.poll_timeout(),
            self.core.poll_timeout(),
            self.core.hub.poll_timeout(),
            self.core.image.poll_timeout(&self.core.table),
            self.console.as_ref().and_then(Console::poll_timeout),
            self.fifo.as_ref().and_then(Fifo::poll_timeout),
            self.fpm.as_ref().and_then(Fpm::poll_timeout),
            self.kernel.as_ref().and_then(Kernel::poll_timeout),
            self.export.as_ref().and_then(Export::poll_timeout),
            memory.closed_until,
            drain,
        ]
        .into_iter()
        .flatten()
        .min()?;
        // To the whole millisecond, so that it has passed when the loop wakes.
        let deadline = self.start + Duration::from_millis(deadline);
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// Sorts what woke the loop.
    fn note(&mut self, events: &Events) -> Woken {
        let mut woken = Woken::default();
        for event in events.iter() {
            let Some(wakeup) = Wakeup::of(event) else { continue };
            self.turns.woke(wakeup);
            match wakeup {
                Wakeup::UnixListener => woken.unix = true,
                Wakeup::TcpListener => woken.tcp = true,
                Wakeup::ClassicListener => woken.classic = true,
                Wakeup::Signal => woken.signal = true,
                Wakeup::ConsoleInput => {
                    woken.console_input = true;
                    if let Some(console) = &mut self.console {
                        console.waited.reported(self.core.turn);
                    }
                }
                Wakeup::ConsoleRoom => woken.console_room = true,
                Wakeup::Loader => woken.loader = true,
                Wakeup::Queue => {
                    woken.queue = true;
                    if let Some(queue) = &mut self.queue {
                        queue.waited.reported(self.core.turn);
                    }
                }
                Wakeup::Fifo => {
                    woken.fifo = true;
                    if let Some(fifo) = &mut self.fifo {
                        fifo.waited.reported(self.core.turn);
                    }
                }
                Wakeup::FpmListener => woken.fpm_listener = true,
                Wakeup::Fpm(place) => {
                    woken.fpm = true;
                    if let Some(fpm) = &mut self.fpm {
                        fpm.woken(place);
                    }
                }
                Wakeup::Kernel | Wakeup::KernelAnswer => woken.kernel = true,
                Wakeup::Export | Wakeup::ExportAnswer | Wakeup::ExportDone => {
                    woken.export = true;
                }
                Wakeup::Process(token) => self.clients.process_ended(token),
                Wakeup::Client(token) => self.clients.woken(token, event, self.core.turn),
            }
        }
        woken
    }

    fn orders(&mut self, woken: &Woken, memory: &mut Memory) {
        if woken.signal {
            while let Some(order) = self.signals.next() {
                match order {
                    Order::Stop => self.stop(memory),
                    Order::Reload => self.core.reload_asked = true,
                    Order::Continued => {
                        if let Some(console) = &mut self.console {
                            console.continued();
                        }
                    }
                }
            }
        }
        if std::mem::take(&mut self.core.reload_asked) {
            let reply = crate::start::reload(self);
            self.clients.reloaded(&reply);
            if let Some(console) = &mut self.console {
                console.reloaded(&reply);
            }
        }
        let Some(console) = &mut self.console else { return };
        if woken.console_input {
            // Its descriptor is closed with it, which ends the watching, too.
            let _ended = console.read(self.core.now);
        }
        if woken.console_room {
            console.has_room();
        }
        if memory.drain.is_none() {
            console.take_lines(&mut self.core);
        }
        if console.wants_quit() && memory.drain.is_none() {
            self.stop(memory);
        }
        self.watch_console();
    }

    fn watch_console(&mut self) {
        let Some(console) = &mut self.console else { return };
        let Some((input, wanted)) = console.watch() else { return };
        let result = if wanted {
            self.epoll.add(input, W::ConsoleInput.number(), Interest::READ)
        } else {
            self.epoll.delete(input)
        };
        if let Err(error) = result {
            tracing::warn!("the console is closed: {error}");
            self.console = None;
        }
    }

    fn feed(&mut self, woken: &Woken, memory: &mut Memory, until: Instant) -> bool {
        if memory.drain.is_some() {
            memory.feeding = false;
            return false;
        }
        let late = self.clients.read_some(&mut self.core, until);
        let mut more = false;
        if let Some(loader) = &mut self.loader {
            if woken.loader || memory.feeding {
                // Connections come first, but never leave the file without any.
                let until = until.max(Instant::now() + FEEDS / 4);
                more = loader.apply_some(&mut self.core, until);
                self.facts.load = loader.facts();
                if loader.is_over() {
                    self.loader = None;
                }
            }
        }
        // So are these: each has its part of the turn, whoever floods.
        if let Some(queue) = self.queue.as_mut().filter(|_| woken.queue || memory.feeding) {
            let until = Instant::now() + FEEDS / 4;
            more |= queue.take_some(&mut self.core, &self.epoll, until);
        }
        if let Some(fifo) = self.fifo.as_mut().filter(|_| woken.fifo || memory.feeding) {
            let until = Instant::now() + FEEDS / 4;
            more |= fifo.take_some(&mut self.core, &self.epoll, until);
        }
        if let Some(fpm) = &mut self.fpm {
            // A zebra that isn't back gives way in this very turn.
            fpm.handle_timeout(&mut self.core);
            if woken.fpm || memory.feeding {
                let until = until.max(Instant::now() + FEEDS / 4);
                more |= fpm.take_some(&mut self.core, until);
            }
        }
        if let Some(kernel) = self.kernel.as_mut().filter(|_| woken.kernel || memory.feeding) {
            let until = until.max(Instant::now() + FEEDS / 4);
            more |= kernel.take_some(&mut self.core, &self.epoll, until);
        }
        memory.feeding = more;
        late || more
    }

    /// The export goes on from where it stands in the order of changes.
    fn export_some(&mut self, woken: &Woken, memory: &Memory) {
        let Some(export) = &mut self.export else { return };
        self.core.loading = self.loader.is_some();
        if memory.published != self.core.table.revision().0 {
            export.changed();
        }
        let due = export.poll_timeout().is_some_and(|at| at <= self.core.now);
        if woken.export || due || export.has_work(&self.core) {
            export.step(&mut self.core, Instant::now() + EXPORT);
        }
    }

    fn run_jobs(&mut self, woken: &Woken, until: Instant) -> bool {
        let _ = woken;
        if std::mem::take(&mut self.core.inventory_asked) {
            self.facts.inventory = self.inventory();
        }
        let late = self.clients.run_jobs(&mut self.core, &self.turns, &self.facts, until);
        if let Some(console) = &mut self.console {
            console.run_job(&mut self.core, &mut self.clients, &self.turns, &self.facts);
        }
        late
    }

    /// The daemon's own descriptors: a few, and each zebra's.
    fn inventory(&self) -> Vec<Row> {
        let turns = &self.turns;
        let mut rows = vec![
            Row::new("epoll", &*self.epoll, "the loop"),
            Row::timer(turns.wakeups_in_time()),
            self.signals.row(turns),
            Row::new("image", self.core.image.descriptor(), "the tables in shared memory"),
        ];
        for listener in [&self.unix, &self.tcp, &self.classic].into_iter().flatten() {
            rows.push(listener.row(&self.facts, turns));
        }
        rows.extend(self.console.iter().flat_map(|console| console.rows(turns)));
        rows.extend(self.loader.as_ref().map(|loader| loader.row(turns)));
        rows.extend(self.queue.as_ref().map(|queue| queue.row(&self.core, turns)));
        rows.extend(self.fifo.as_ref().map(|fifo| fifo.row(&self.core, turns)));
        rows.extend(self.fpm.iter().flat_map(|fpm| fpm.rows(turns)));
        rows.extend(self.kernel.iter().flat_map(|kernel| kernel.rows(turns)));
        rows.extend(self.export.iter().flat_map(|export| export.rows(turns)));
        rows.extend(self.reserve.rows());
        rows.extend(self.clients.row());
        rows
    }

    fn publish(&mut self, memory: &mut Memory) -> bool {
        if self.core.image.can_wait(self.core.now) && self.clients.are_behind() {
            self.core.image.put_off(self.core.now);
        }
        // The image first: nobody is told of what it doesn't show.
        let Core { image, table, hub, now, .. } = &mut self.core;
        if image.publish(table, hub, *now) {
            self.clients.wake_pipes();
        }
        let goes_on = memory.feeding || self.clients.is_reading();
        image.wake(|| goes_on || self.epoll.is_ready());
        self.clients.give_image(&mut self.core);
        match self.core.table.revision().0 - memory.published {
            0 => {}
            1..=FEW => memory.live_until = self.core.now + LIVE_MS,
            // A burst is to get through, whatever that takes.
            _ => memory.live_until = 0,
        }
        let live = self.core.now < memory.live_until;
        let budget = if live { PUBLISH_LIVE } else { PUBLISH };
        let more = self.core.hub.publish(&mut self.core.table, budget)
            | self.core.image.has_work(&self.core.table, self.core.now);
        memory.published = self.core.table.revision().0;
        while let Some(token) = self.core.hub.poll_ready() {
            self.clients.queue_ready(ClientToken::from_number(token));
        }
        while let Some(report) = self.core.hub.poll_barrier() {
            let console = self.console.as_mut();
            if !console.is_some_and(|console| console.barrier_ended(&report)) {
                self.clients.barrier_ended(&report);
            }
        }
        if self.core.take_released() {
            self.clients.released();
            if let Some(console) = &mut self.console {
                console.wake();
            }
            memory.feeding = true;
        }
        // While something is staged they can't look; the release wakes them.
        if !self.core.waits.is_empty() && !self.core.table.is_staging() {
            self.clients.touched(&self.core);
            if let Some(console) = &mut self.console {
                console.wake();
            }
        }
        more
    }

    fn doors(&mut self, woken: &Woken, memory: &mut Memory) {
        if memory.closed_until.is_some_and(|until| until <= self.core.now) {
            memory.closed_until = None;
            self.reserve.fill();
            self.listen(true);
        }
        let waiting =
            [(woken.unix, &self.unix), (woken.tcp, &self.tcp), (woken.classic, &self.classic)];
        for (woken, listener) in waiting {
            let Some(listener) = listener.as_ref().filter(|_| woken) else { continue };
            let pause =
                self.clients.accept(listener, &self.admins, &mut self.reserve, &mut self.core);
            if let Some(pause) = pause {
                memory.closed_until = Some(self.core.now + pause.as_millis() as Millis);
            }
        }
        if memory.closed_until.is_some() {
            self.listen(false);
        }
        if let Some(fpm) = self.fpm.as_mut().filter(|_| woken.fpm_listener) {
            fpm.accept(&mut self.core);
            memory.feeding = true;
        }
        self.clients.close_ended(&mut self.core);
    }

    fn listen(&self, wanted: bool) {
        let interest = if wanted { Interest::READ } else { Interest::NONE };
        for listener in [&self.unix, &self.tcp, &self.classic].into_iter().flatten() {
            let _ = self.epoll.modify(listener, listener.wakeup().number(), interest);
        }
    }

    /// The end begins; asked again, it is here.
    fn stop(&mut self, memory: &mut Memory) {
        match &mut memory.drain {
            None => {
                tracing::info!("stopping: {} sessions get a goodbye", self.clients.len());
                self.manager.stopping();
                // The names go first: nobody connects to a daemon that leaves.
                self.unix = None;
                self.tcp = None;
                self.classic = None;
                self.loader = None;
                self.queue = None;
                self.fifo = None;
                self.fpm = None;
                self.kernel = None;
                self.export = None;
                memory.drain = Some(Drain { deadline: self.core.now + DRAIN_MS, said: false });
            }
            Some(drain) => {
                drain.deadline = self.core.now;
                drain.said = true;
            }
        }
    }

    /// Is the end here? Says the goodbyes when it is time.
    fn drained(&mut self, memory: &mut Memory) -> bool {
        let Some(drain) = &mut memory.drain else { return false };
        let tokens = self.clients.tokens();
        if tokens.is_empty() {
            return true;
        }
        if drain.said {
            return self.core.now >= drain.deadline;
        }
        let late = self.core.now >= drain.deadline;
        let mut waiting = false;
        for token in tokens {
            if late || self.clients.is_caught_up(token, &self.core) {
                if !self.clients.is_closing(token) {
                    let text = "the daemon stops";
                    self.clients.goodbye(token, GoodbyeReason::Stopping, text, &mut self.core);
                }
            } else {
                waiting = true;
            }
        }
        if !waiting {
            drain.said = true;
            drain.deadline = self.core.now + GOODBYES_MS;
        }
        false
    }
}

/// What a reload answers.
pub(crate) fn reload_reply(changed: &[String]) -> Reply {
    let text = if changed.is_empty() { "nothing changed".to_owned() } else { changed.join("; ") };
    Reply { text, ..Reply::done() }
}
