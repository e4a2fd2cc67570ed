//! `ipc bench`: round trip and throughput of every mechanism on this machine.
//!
//! Each figure comes from two processes: this one and a child of it (the same
//! program with `--side`), which sends back what it gets. Both are pinned: to one
//! core, or to two. A round trip is timed by itself, so that its tail is seen;
//! throughput is one way, with one answer at the end.
//!
//! The child gets its descriptors through a socket, not as its standard input
//! and output: those are polled once as a Rust program starts, and a pipe that
//! was ever polled wakes its reader at each write, not only when it was empty
//! (`poll_usage` in the kernel's fs/pipe.c): a tenth of its speed.
mod link;
mod plot;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use clap::{Args, ValueEnum};

use crate::failure::{Failure, output, refused};
use crate::table::{Cell, Style, Table};
use link::{Link, Pair};

/// Trips that aren't counted, at most as many as those that are: caches and
/// schedulers find their pace.
const WARM_UP: usize = 200;
/// Datagrams and signals are lost or refused when nobody takes them, so that
/// after so many an answer is waited for. A socket's buffer holds 25 datagrams of 4 KiB, as the
/// kernel counts them (212,992 bytes, net.core.rmem_default).
const WINDOW: usize = 16;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mechanism {
    Pipe,
    Fifo,
    UnixStream,
    UnixDgram,
    UnixSeqpacket,
    Tcp,
    Udp,
    Mq,
    SysvMq,
    /// Shared memory with two semaphores in it
    ShmSem,
    /// The ring in shared memory
    Ring,
    Eventfd,
    /// A queued real-time signal
    Signal,
}

impl Mechanism {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pipe => "pipe",
            Self::Fifo => "fifo",
            Self::UnixStream => "unix-stream",
            Self::UnixDgram => "unix-dgram",
            Self::UnixSeqpacket => "unix-seqpacket",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Mq => "mq",
            Self::SysvMq => "sysv-mq",
            Self::ShmSem => "shm-sem",
            Self::Ring => "ring",
            Self::Eventfd => "eventfd",
            Self::Signal => "signal",
        }
    }

    /// An eventfd carries a number, a signal a value, and nothing else.
    fn carries_eight_bytes(self) -> bool {
        matches!(self, Self::Eventfd | Self::Signal)
    }

    fn windowed(self) -> bool {
        matches!(self, Self::Udp | Self::Signal)
    }
}

#[derive(Args)]
pub(crate) struct Bench {
    /// Write the plot into this file, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Only these (separated by commas)
    #[arg(long, value_enum, value_delimiter = ',', value_name = "MECHANISM")]
    only: Vec<Mechanism>,
    /// Message sizes in bytes
    #[arg(long, value_delimiter = ',', value_name = "N", default_value = "64,4096")]
    sizes: Vec<usize>,
    /// How many round trips are timed for each figure
    #[arg(long, value_name = "N", default_value = "5000")]
    trips: usize,
    /// How many messages are sent one way for each figure
    #[arg(long, value_name = "N", default_value = "20000")]
    messages: usize,
    /// No plot in the terminal
    #[arg(long)]
    no_plot: bool,
    #[command(flatten)]
    style: Style,
    /// The child's part: mechanism, size, names, core
    #[arg(long, hide = true, num_args = 4)]
    side: Vec<String>,
}

/// One line of the table.
pub(crate) struct Figure {
    pub(crate) mechanism: Mechanism,
    pub(crate) bytes: usize,
    pub(crate) same_core: bool,
    /// Nanoseconds of a round trip: p50, p99, p99.9.
    pub(crate) trip: [u64; 3],
    /// Messages a second, one way.
    pub(crate) rate: u64,
}

pub(crate) fn run(bench: &Bench) -> Result<(), Failure> {
    if let [mechanism, bytes, names, core] = &bench.side[..] {
        return side(bench, mechanism, bytes, names, core);
    }
    if bench.trips == 0 || bench.messages == 0 {
        return Err(Failure::usage("--trips and --messages are 1 or more"));
    }
    if let Some(size) = bench.sizes.iter().find(|size| !(8..=4096).contains(*size)) {
        return Err(Failure::usage(format!("--sizes {size}: a message has 8 to 4096 bytes")));
    }
    let cores = cores();
    let all = if bench.only.is_empty() { Mechanism::value_variants() } else { &bench.only };
    // Before anything is measured: that takes its time.
    let picture = match bench.svg.as_deref() {
        Some(path) => Some((File::create(path).map_err(refused(path.display()))?, path)),
        None => None,
    };
    let mut figures = Vec::new();
    for mechanism in all {
        let sizes = if mechanism.carries_eight_bytes() { &[8][..] } else { &bench.sizes };
        for bytes in sizes {
            for other in [Some(cores[0]), cores.get(1).copied()] {
                let Some(other) = other else { continue };
                figures.push(measure(bench, *mechanism, *bytes, cores[0], other)?);
            }
        }
    }
    if cores.len() < 2 {
        eprintln!("this process may use one core only: no figures for two");
    }
    print(bench, &figures)?;
    if let Some((mut file, path)) = picture {
        file.write_all(plot::svg(&figures).as_bytes()).map_err(refused(path.display()))?;
    }
    Ok(())
}

/// The cores that this process may use.
fn cores() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![0] };
    let all: Vec<usize> =
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
    if all.is_empty() { vec![0] } else { all }
}

fn pin(core: usize) -> Result<(), Failure> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|errno| Failure::refused(format!("core {core}: {}", ipc::errno_text(errno))))
}

/// The child, ended with what it is needed for.
struct Partner(Child);

impl Drop for Partner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure(
    bench: &Bench,
    mechanism: Mechanism,
    bytes: usize,
    core: usize,
    other: usize,
) -> Result<Figure, Failure> {
    let before = rustix::thread::sched_getaffinity(None).ok();
    let Pair { mut link, ends, names, _made } = link::pair(mechanism, bytes)?;
    let (socket, theirs) = ipc::unix::pair(ipc::unix::Kind::Stream)?;
    let program = std::env::current_exe()
        .map_err(|error| Failure::refused(format!("this program's path: {error}")))?;
    let words =
        [mechanism.name(), &bytes.to_string(), &names, &other.to_string()].map(str::to_owned);
    let child = Command::new(program)
        .arg("bench")
        .args(["--trips", &bench.trips.to_string(), "--messages", &bench.messages.to_string()])
        .arg("--side")
        .args(words)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| Failure::refused(format!("the other process: {error}")))?;
    let partner = Partner(child);
    if let Some((read, write)) = &ends {
        ipc::descriptors::send(&socket, b"e", &[read.as_fd(), write.as_fd()])?;
    }
    drop((ends, socket));
    link.partner(rustix::process::Pid::from_child(&partner.0))?;
    pin(core)?;
    let result = timed(bench, mechanism, bytes, &mut *link);
    if let Some(before) = before {
        let _ = rustix::thread::sched_setaffinity(None, &before);
    }
    let (mut trips, rate) = result?;
    let mut partner = partner;
    let _ = partner.0.wait();
    trips.sort_unstable();
    let at = |share: f64| trips[((trips.len() - 1) as f64 * share) as usize];
    let trip = [at(0.5), at(0.99), at(0.999)];
    Ok(Figure { mechanism, bytes, same_core: core == other, trip, rate })
}

fn timed(
    bench: &Bench,
    mechanism: Mechanism,
    bytes: usize,
    link: &mut dyn Link,
) -> Result<(Vec<u64>, u64), Failure> {
    let (message, mut answer) = (vec![b'x'; bytes], vec![0; bytes]);
    let mut trips = Vec::with_capacity(bench.trips);
    // The other one says first that it is there.
    link.receive(&mut answer)?;
    let warm_up = WARM_UP.min(bench.trips);
    for n in 0..warm_up + bench.trips {
        let start = Instant::now();
        link.send(&message)?;
        link.receive(&mut answer)?;
        if n >= warm_up {
            trips.push(start.elapsed().as_nanos() as u64);
        }
    }
    let start = Instant::now();
    for n in 1..=bench.messages {
        link.send(&message)?;
        if mechanism.windowed() && n % WINDOW == 0 {
            link.receive(&mut answer)?;
        }
    }
    link.receive(&mut answer)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok((trips, (bench.messages as f64 / seconds) as u64))
}

/// The child's part.
fn side(
    bench: &Bench,
    mechanism: &str,
    bytes: &str,
    names: &str,
    core: &str,
) -> Result<(), Failure> {
    let wrong = || Failure::usage("--side is for this program itself");
    let mechanism = Mechanism::from_str(mechanism, false).map_err(|_| wrong())?;
    let bytes: usize = bytes.parse().map_err(|_| wrong())?;
    pin(core.parse().map_err(|_| wrong())?)?;
    let received = ipc::descriptors::receive(std::io::stdin(), &mut [0], 2)?;
    let mut descriptors = received.descriptors.into_iter();
    let ends = descriptors.next().zip(descriptors.next());
    let mut link = link::side(mechanism, bytes, names, ends)?;
    let mut message = vec![b'y'; bytes];
    link.send(&message)?;
    for _ in 0..WARM_UP.min(bench.trips) + bench.trips {
        link.receive(&mut message)?;
        link.send(&message)?;
    }
    for n in 1..=bench.messages {
        link.receive(&mut message)?;
        if mechanism.windowed() && n % WINDOW == 0 {
            link.send(&message)?;
        }
    }
    link.send(&message)?;
    link.linger();
    Ok(())
}

fn print(bench: &Bench, figures: &[Figure]) -> Result<(), Failure> {
    let microseconds = |nanos: u64| {
        let value = nanos as f64 / 1000.0;
        Cell::Detailed(format!("{value:.1}"), serde_json::json!(value))
    };
    let rows = figures.iter().map(|f| {
        vec![
            Cell::text(f.mechanism.name()),
            Cell::Number(f.bytes as u64),
            Cell::text(if f.same_core { "same" } else { "other" }),
            microseconds(f.trip[0]),
            microseconds(f.trip[1]),
            microseconds(f.trip[2]),
            Cell::Number(f.rate),
        ]
    });
    let columns = &["MECHANISM", "BYTES", "CORE", "P50-US", "P99-US", "P99.9-US", "MSG/S"];
    let rows = rows.collect();
    Table { name: "bench", columns, shown: columns, rows }.print(&bench.style)?;
    if bench.no_plot || bench.style.is_for_programs() {
        return Ok(());
    }
    output(plot::bars(figures).as_bytes())
}
