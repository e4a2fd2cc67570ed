//! The console: the daemon's menu on its standard input and output.
//!
//! Lines come in through epoll and are taken one at a time: while an answer is
//! being shown, or the output has no room, the next line waits and, when a few
//! wait, reading stops. So nothing a console does grows or stops the daemon: a
//! terminal stopped with Ctrl-S, an output that nobody reads, an input that
//! never ends.

pub(crate) mod input;
pub(crate) mod menu;
mod screen;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use ipc::event::Event;
use rtm_model::text::{Command, Context, NeighbourSelector, Options, RouteSelector, RouteShow};
use rtm_tables::wire::Role;
use rtm_tables::{BarrierReport, Millis};

use self::input::{Input, Read};
use self::menu::{LINE_BYTES_MAX, MENU, Menu, Order};
use self::screen::{Screen, Style};
use crate::clients::Clients;
use crate::core::{Core, Requester};
use crate::inventory::{Row, Waited};
use crate::requests::status::Facts;
use crate::requests::{Around, Begun, Job, Reply, Step, begin_command};
use crate::turn::TurnStats;
use crate::wakeup::Wakeup;
use crate::writer::Writer;

/// What of the output may wait: several pages, and several pieces of a long
/// table.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// Lines that may wait.
const LINES_MAX: usize = 64;

/// What a table's page has where a terminal doesn't say.
const PAGE_LINES: u16 = 24;

/// How long the end of the daemon waits for the last text to be written.
const FINISH_WAIT: Duration = Duration::from_millis(200);

/// A background process looks this often whether it has its terminal again.
const BACKGROUND_MS: Millis = 1_000;

/// The console.
pub(crate) struct Console {
    input: Option<Input>,
    /// Is the input watched?
    watched: bool,
    /// When a terminal that somebody else has is looked at again.
    retry: Option<Millis>,
    lines: VecDeque<Result<String, String>>,
    menu: Menu,
    screen: Screen,
    room: Arc<Event>,
    job: Option<Box<Job>>,
    job_deadline: Option<Millis>,
    /// The job can go on.
    runnable: bool,
    /// The job waits for something to happen.
    waiting: bool,
    /// A page is full: the next line says whether to go on.
    paging: bool,
    /// The administrator wants the daemon to stop.
    quit: bool,
    /// How often a turn's lines were used up while there were more.
    overruns: u64,
    pub(crate) waited: Waited,
}

impl Console {
    /// On this input, with the menu shown.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(crate) fn new(input: Input, core: &Core) -> Result<Console, ipc::SystemError> {
        let room = Arc::new(Event::new()?);
        let out = std::io::stdout();
        let writer = Writer::start("console-out", out, OUTPUT_BYTES_MAX, Some(Arc::clone(&room)));
        let page = page_lines(&input);
        let screen = Screen::new(writer, page, core.names.clone());
        let mut console = Console {
            input: Some(input),
            watched: false,
            retry: None,
            lines: VecDeque::new(),
            menu: Menu::new(),
            screen,
            room,
            job: None,
            job_deadline: None,
            runnable: false,
            waiting: false,
            paging: false,
            quit: false,
            overruns: 0,
            waited: Waited::default(),
        };
        console.show_menu();
        Ok(console)
    }

    /// The input and whether it is to be watched, if that is to change.
    pub(crate) fn watch(&mut self) -> Option<(BorrowedFd<'_>, bool)> {
        use std::os::fd::AsFd;
        let wanted = self.lines.len() < LINES_MAX && self.retry.is_none();
        let input = self.input.as_ref()?;
        if wanted == self.watched {
            return None;
        }
        self.watched = wanted;
        Some((input.as_fd(), wanted))
    }

    /// What tells that there is room again.
    pub(crate) fn room(&self) -> &Event {
        &self.room
    }

    /// Its descriptors, for `status -d`.
    pub(crate) fn rows(&self, turns: &TurnStats) -> Vec<Row> {
        let input = self.input.as_ref().map(|input| {
            Row::new("console", input, "standard input")
                .woken(turns.wakeups_by(Wakeup::ConsoleInput))
                .read(input.bytes(), self.overruns)
                .waited(self.waited)
        });
        let room = Row::new("event", &*self.room, "console: room to write")
            .woken(turns.wakeups_by(Wakeup::ConsoleRoom));
        input.into_iter().chain([room]).collect()
    }

    /// Does the administrator want the daemon to stop?
    pub(crate) fn wants_quit(&self) -> bool {
        self.quit
    }

    /// Is there something to do before the next event?
    pub(crate) fn has_work(&self) -> bool {
        self.runnable || self.is_given_up() || !self.lines.is_empty() && self.takes_lines()
    }

    /// At a terminal, Enter gives up what only waits. (A script's next line is
    /// no impatience.)
    fn is_given_up(&self) -> bool {
        let enter = |line: &Result<String, String>| {
            line.as_ref().is_ok_and(|line| matches!(line.trim(), "" | "q"))
        };
        self.waiting && self.screen.is_terminal() && self.lines.front().is_some_and(enter)
    }

    /// When it wants to be looked at.
    pub(crate) fn poll_timeout(&self) -> Option<Millis> {
        [self.retry, self.job_deadline].into_iter().flatten().min()
    }

    /// The terminal may be ours again.
    pub(crate) fn continued(&mut self) {
        self.retry = None;
    }

    /// The input has something, or ended. True: it ended, and is not to be
    /// watched any more.
    pub(crate) fn read(&mut self, now: Millis) -> bool {
        let Some(input) = &mut self.input else { return false };
        match input.read(LINE_BYTES_MAX) {
            Read::Lines(lines) => self.lines.extend(lines),
            Read::Background => self.retry = Some(now + BACKGROUND_MS),
            Read::End(lines) => {
                self.lines.extend(lines);
                // The menu closes; the daemon runs on.
                self.input = None;
                self.watched = false;
                tracing::info!("the console's input has ended; the daemon runs on");
                return true;
            }
        }
        false
    }

    /// The writer has room again.
    pub(crate) fn has_room(&mut self) {
        let _ = self.room.take();
        self.screen.flush();
        self.runnable |= self.job.is_some() && !self.paging;
    }

    /// A hold was released or a record touched a `wait`.
    pub(crate) fn wake(&mut self) {
        self.runnable |= self.job.is_some() && !self.paging;
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Millis) {
        if self.retry.is_some_and(|retry| retry <= now) {
            self.retry = None;
        }
        if self.job_deadline.is_some_and(|deadline| deadline <= now) {
            self.job_deadline = None;
            self.wake();
        }
    }

    /// A barrier has ended; false: it isn't the console's.
    pub(crate) fn barrier_ended(&mut self, report: &BarrierReport) -> bool {
        match self.job.as_deref_mut() {
            Some(Job::Barrier(barrier)) if barrier.id() == Some(report.id) => {
                barrier.ended(report.clone());
                self.runnable = true;
                true
            }
            _ => false,
        }
    }

    /// The configuration was read again.
    pub(crate) fn reloaded(&mut self, reply: &Reply) {
        if let Some(Job::Reload(waiting @ None)) = self.job.as_deref_mut() {
            *waiting = Some(reply.clone());
            self.runnable = true;
        }
    }

    fn takes_lines(&self) -> bool {
        (self.job.is_none() || self.paging) && self.screen.writer().has_room()
    }

    /// Takes lines that wait, at most a few in a turn.
    pub(crate) fn take_lines(&mut self, core: &mut Core) {
        const PER_TURN: usize = 16;
        if self.is_given_up() {
            self.lines.pop_front();
            self.waiting = false;
            if let Some(mut job) = self.job.take() {
                // What waits has nothing that must be stepped to its end.
                let _ = job.cancel(core, Requester::Console);
            }
            self.end(&Reply::refused("given up"), Told::Nothing, core);
        }
        for _ in 0..PER_TURN {
            if !self.takes_lines() || self.quit {
                return;
            }
            let Some(line) = self.lines.pop_front() else { return };
            self.waited.served(core.turn);
            if !self.screen.is_terminal() {
                // Nobody's Enter has ended the prompt's line.
                self.screen.show("\n");
            }
            if self.paging {
                self.turn_page(line.as_deref().unwrap_or_default(), core);
                continue;
            }
            let order = line.and_then(|line| {
                let cx = Context { names: &core.names, ..Context::default() };
                self.menu.line(&line, &cx)
            });
            match order {
                Ok(order) => self.carry_out(order, core),
                Err(why) => {
                    core.counters.requests_refused += 1;
                    self.menu = Menu::new();
                    self.screen.show(&format!("rtm: {why}\n"));
                    self.show_menu();
                }
            }
        }
        self.overruns += u64::from(!self.lines.is_empty() && self.takes_lines());
    }

    fn carry_out(&mut self, order: Order, core: &mut Core) {
        let (options, command, style) = match order {
            Order::Ask => {
                let prompt = self.menu.prompt();
                self.screen.show(&prompt);
                return;
            }
            Order::Menu => {
                self.show_menu();
                return;
            }
            Order::Quit => {
                self.quit = true;
                return;
            }
            Order::Change(change) => (Options::default(), Command::Change(change), Style::Lines),
            Order::Command(command) => (command.0, command.1, Style::Lines),
            Order::Routes => {
                let selector = RouteSelector { table: None, ..RouteSelector::default() };
                let show = RouteShow { selector, ..RouteShow::default() };
                (Options::default(), Command::RouteShow(show), Style::Table)
            }
            Order::Neighbours => {
                let selector = NeighbourSelector::default();
                (Options::default(), Command::NeighbourShow(selector), Style::Table)
            }
            Order::Clients => (Options::default(), Command::ClientList, Style::Lines),
        };
        self.screen.begin(style);
        match (&command, style) {
            (Command::RouteShow(_), Style::Table) => self.screen.routes_heading(),
            (Command::NeighbourShow(_), Style::Table) => self.screen.neighbours_heading(),
            _ => {}
        }
        let what = told(&command);
        core.counters.requests += 1;
        match begin_command(core, Requester::Console, Role::Admin, options, command) {
            Begun::Answered(reply) => self.end(&reply, what, core),
            Begun::Empty => self.show_menu(),
            Begun::Job(job) => {
                self.job = Some(job);
                self.runnable = true;
            }
        }
    }

    /// Goes on with the answer at hand.
    pub(crate) fn run_job(
        &mut self,
        core: &mut Core,
        clients: &mut Clients,
        turns: &TurnStats,
        facts: &Facts,
    ) {
        if !std::mem::take(&mut self.runnable) {
            return;
        }
        let Some(mut job) = self.job.take() else { return };
        self.waiting = false;
        let mut around = Around { clients, turns, facts };
        match job.step(core, Requester::Console, &mut around, &mut self.screen) {
            Step::Done(reply) => {
                self.job_deadline = None;
                let what = match &*job {
                    Job::Change(_) | Job::Flush(_) | Job::FlushSelected(_) => Told::Change,
                    Job::Clients(_) => Told::Clients,
                    Job::Reload(_) => Told::Done,
                    _ => Told::Nothing,
                };
                self.end(&reply, what, core);
                return;
            }
            Step::More => self.runnable = true,
            Step::NoRoom if self.screen.page_is_full() => {
                self.paging = true;
                self.screen.show("-- more: Enter; back to the menu: q -- ");
            }
            // The writer tells when it has room.
            Step::NoRoom => {}
            Step::Wait(until) => {
                self.waiting = true;
                self.job_deadline = until.deadline;
            }
        }
        self.screen.flush();
        self.job = Some(job);
    }

    fn turn_page(&mut self, line: &str, core: &mut Core) {
        self.paging = false;
        if line.trim().eq_ignore_ascii_case("q") {
            if let Some(mut job) = self.job.take() {
                // A listing holds nothing that must be stepped to its end.
                let _ = job.cancel(core, Requester::Console);
            }
            self.show_menu();
            return;
        }
        self.screen.next_page(self.input.as_ref().and_then(page_lines));
        self.runnable = true;
    }

    fn end(&mut self, reply: &Reply, what: Told, core: &mut Core) {
        core.counters.requests_refused += u64::from(reply.is_refusal());
        let mut text = String::new();
        self.screen.end();
        if !reply.text.is_empty() {
            text = format!("rtm: {}\n", reply.text);
        } else if reply.code == 0 {
            match what {
                Told::Change if reply.applied > 0 => {
                    text = format!("done, revision {}\n", core.table.revision().0);
                }
                Told::Change => text.push_str("nothing changed\n"),
                Told::Done => text.push_str("done\n"),
                Told::Clients if self.screen.rows() == 0 => text.push_str("no clients\n"),
                Told::Clients | Told::Nothing => {}
            }
        }
        self.screen.show(&text);
        self.show_menu();
    }

    fn show_menu(&mut self) {
        if self.input.is_none() && self.lines.is_empty() {
            return;
        }
        let prompt = self.menu.prompt();
        self.screen.show(&format!("\n{MENU}{prompt}"));
    }

    /// The daemon ends: the last text is given a moment.
    pub(crate) fn finish(&mut self) {
        self.screen.flush();
        self.screen.writer().finish(FINISH_WAIT);
    }
}

/// What is said at the end of an answer.
#[derive(Clone, Copy)]
enum Told {
    Nothing,
    Change,
    Clients,
    Done,
}

fn told(command: &Command) -> Told {
    match command {
        Command::Change(_) | Command::Flush(_) => Told::Change,
        _ => Told::Nothing,
    }
}

/// Lines of a page, if the input is a terminal.
fn page_lines(input: &Input) -> Option<usize> {
    if !input.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok();
    let rows = size.map_or(PAGE_LINES, |size| size.ws_row);
    Some(usize::from(if rows < 4 { PAGE_LINES } else { rows }))
}
