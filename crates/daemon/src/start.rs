//! Puts the daemon together, and reads its configuration again.

use std::rc::Rc;
use std::time::Instant;

use ipc::epoll::Epoll;
use rtm_model::DigestKey;
use rtm_tables::{Epoch, Hub, HubLimits, Table, TableLimits};

use crate::args::{Args, FPM_DEFAULT};
use crate::clients::Clients;
use crate::clients::accept::{KEPT, Listener, Reserve};
use crate::config::{self, Config, Overrides, TableName};
use crate::console::Console;
use crate::console::input::Input;
use crate::core::Core;
use crate::event_loop::{Daemon, reload_reply};
use crate::feeds::export::Export;
use crate::feeds::fifo::Fifo;
use crate::feeds::fpm::Fpm;
use crate::feeds::kernel::Kernel;
use crate::feeds::queue::Queue;
use crate::file_load::Loader;
use crate::image::Image;
use crate::log::Log;
use crate::requests::Reply;
use crate::requests::status::Facts;
use crate::roles::Admins;
use crate::runtime_dir::{Environment, RuntimeDir, posix_name};
use crate::signals::Signals;
use crate::systemd::ServiceManager;
use crate::time::since_1970;
use crate::turn::TurnStats;

/// The mode of the socket: everybody on this host may connect, and their
/// credentials say what they may do.
const SOCKET_MODE: u32 = 0o666;

/// Descriptors left for threads, for /proc, for files: beyond those in use.
const SLACK: usize = 8;

/// The heap grows by this much at once: a few huge pages, of which what isn't used
/// takes no memory.
const HEAP_STEP_BYTES: i32 = 32 << 20;

/// Bytes of the journal of each filter.
const FILTER_JOURNAL_BYTES: usize = 1 << 20;

/// Why the daemon didn't start, with its exit code.
pub(crate) struct StartError {
    /// 1: usage or configuration; 2: it could not start.
    pub(crate) code: u8,
    /// One line.
    pub(crate) text: String,
}

fn usage(text: impl Into<String>) -> StartError {
    StartError { code: 1, text: text.into() }
}

fn failed(text: impl Into<String>) -> StartError {
    StartError { code: 2, text: text.into() }
}

/// Starts it, runs it to its end.
pub(crate) fn run(args: &Args) -> Result<(), StartError> {
    if let Some(option) = args.not_in_this_version() {
        return Err(usage(format!("{option}: not in this version")));
    }
    let overrides = Overrides {
        config: args.config.clone(),
        listen: args.listen,
        log: args.log,
        fpm: args.fpm.map(|address| address.unwrap_or(FPM_DEFAULT)),
        kernel: args.kernel.as_ref().map(|tables| {
            let tables = tables.as_deref().unwrap_or("all").split(',');
            tables.map(TableName::of_text).collect()
        }),
        export: args.export.as_deref().map(TableName::of_text),
    };
    let config = config::load(&overrides).map_err(|e| usage(format!("configuration: {e}")))?;
    let admins =
        Admins::of_host(&config.roles).map_err(|e| usage(format!("configuration: {e}")))?;
    if args.check {
        println!("the configuration is right");
        return Ok(());
    }

    // Its memory is not to be looked at by others of its user.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let signals = Signals::new().map_err(|e| failed(format!("signals: {e}")))?;
    let limit = ipc::process::raise_open_files().map_or(1024, |limit| limit.now);

    let environment = Environment::of_process(args.runtime_dir.clone());
    let directory = RuntimeDir::acquire(&environment).map_err(|e| failed(e.to_string()))?;
    let path = directory.socket();
    let unix = ipc::unix::Listener::bind(&path, ipc::unix::Kind::Stream, SOCKET_MODE)
        .map_err(|e| failed(e.to_string()))?;
    // Where the kernel can, it keeps descriptors away from us; elsewhere our
    // reads drop them.
    let _ = ipc::descriptors::refuse(&unix);
    let loader = match &args.load {
        Some(file) => Some(Loader::start(file).map_err(failed)?),
        None => None,
    };
    // From here on there are threads.
    let log = Log::start(config.log.level.0);
    let mut warnings = Vec::new();
    let tcp = config.listen.tcp.and_then(|address| {
        let listener = ipc::tcp::Listener::bind(address.0);
        listener.map_err(|error| warnings.push(format!("listen.tcp: {error}"))).ok()
    });
    // What can't be made is a warning: the daemon runs on without.
    let classic = directory.classic();
    let classic = ipc::unix::Listener::bind(&classic, ipc::unix::Kind::Stream, SOCKET_MODE)
        .inspect(|listener| {
            let _ = ipc::descriptors::refuse(listener);
        })
        .map_err(|error| warnings.push(error.to_string()))
        .ok();
    let queue = match Queue::create(directory.path(), &config.queue) {
        Ok((queue, said)) => {
            warnings.extend(said);
            Some(queue)
        }
        Err(why) => {
            warnings.push(why);
            None
        }
    };
    let fifo = Fifo::create(&directory.fifo(), config.fifo.mode.0);
    let fifo = fifo.map_err(|why| warnings.push(why)).ok();
    let token = config
        .listen
        .tcp_token_file
        .as_deref()
        .and_then(|path| secret(path).map_err(|why| warnings.push(why)).ok());
    let epoll = Rc::new(Epoll::new().map_err(|e| failed(e.to_string()))?);
    let fpm = Fpm::open(Rc::clone(&epoll), &config.fpm).unwrap_or_else(|why| {
        warnings.push(why);
        None
    });
    let mut reserve = Reserve::default();
    reserve.fill();

    let tcp_address = tcp.as_ref().and_then(|listener| listener.local_address().ok());
    let mut facts = Facts {
        runtime_dir: directory.path().display().to_string(),
        socket: path.display().to_string(),
        queue: queue.as_ref().map(|queue| (queue.name().to_owned(), queue.sizes())),
        fpm: fpm.as_ref().map(|fpm| fpm.address().to_string()),
        classic: classic.as_ref().map(|_| directory.classic().display().to_string()),
        fifo: fifo.as_ref().map(|_| directory.fifo().display().to_string()),
        tcp: tcp_address.map(|address| format!("tcp://{address}")),
        since: since_1970(),
        started: Instant::now(),
        warnings,
        load: loader.as_ref().map_or(serde_json::Value::Null, Loader::facts),
        log: log.clone(),
    };
    let name = format!("{}-image", posix_name(directory.path()));
    // One that a killed daemon published; the lock is ours.
    let _ = rtm_image::remove_name(&name);
    let mut core = core(config, args.publish_name.then_some(&*name)).map_err(failed)?;
    facts.warnings.extend(core.image.warnings.iter().cloned());
    let kernel_config = core.config.kernel.clone();
    kernel_config.numbers(&core.names).map_err(|e| usage(format!("kernel.tables: {e}")))?;
    let mut kernel = None;
    if kernel_config.is_on() {
        let own = core.config.export.protocol.0 as u8;
        // What can't be made is a warning: the daemon runs on without.
        match Kernel::open(&mut core, &kernel_config, own) {
            Ok(opened) => kernel = Some(opened),
            Err(why) => facts.warnings.push(why),
        }
    }
    let export_config = core.config.export.clone();
    let mut export = None;
    if let Some(table) = &export_config.table {
        let table = table.number(&core.names).map_err(|e| usage(format!("export.table: {e}")))?;
        let (protocol, hold) = (export_config.protocol.0 as u8, export_config.hold_s.0 * 1000);
        match Export::open(&mut core, table, protocol, hold) {
            Ok(opened) => export = Some(opened),
            Err(why) => facts.warnings.push(why),
        }
    }
    let mut console = None;
    if wants_console(args) {
        match Input::open().map(|input| Console::new(input, &core)) {
            Some(Ok(made)) => console = Some(made),
            Some(Err(error)) => tracing::warn!("no console: {error}"),
            None => tracing::info!("no console: standard input can't be waited for"),
        }
    }
    let mut daemon = Daemon {
        heap: ipc::heap::Heap::growing_by(HEAP_STEP_BYTES),
        clients: Clients::new(Rc::clone(&epoll), descriptors(limit)),
        epoll,
        start: Instant::now(),
        core,
        unix: Some(Listener::Unix(unix)),
        tcp: tcp.map(Listener::Tcp),
        classic: classic.map(Listener::Classic),
        admins,
        reserve,
        signals,
        console,
        loader,
        queue,
        fifo,
        fpm,
        kernel,
        export,
        overrides,
        facts,
        manager: ServiceManager::of_environment(),
        turns: TurnStats::default(),
    };
    daemon.clients.secret = token;
    daemon.watch().map_err(|e| failed(e.to_string()))?;
    for warning in &daemon.facts.warnings {
        tracing::warn!("{warning}");
    }
    log.say(&format!(
        "ready: rtmd {} at {}{}{}",
        env!("CARGO_PKG_VERSION"),
        daemon.facts.socket,
        daemon.facts.tcp.as_ref().map_or(String::new(), |tcp| format!(" and {tcp}")),
        daemon.facts.fpm.as_ref().map_or(String::new(), |fpm| format!(", FPM at {fpm}"))
    ));
    daemon.manager.ready();

    let result = daemon.run();
    daemon.core.image.close();
    if let Some(console) = &mut daemon.console {
        console.finish();
    }
    if result.is_ok() {
        tracing::info!("stopped");
    }
    log.finish();
    drop(daemon);
    drop(directory);
    result.map_err(|e| failed(e.to_string()))
}

/// On a terminal that is ours, or wherever it was asked for.
fn wants_console(args: &Args) -> bool {
    if args.no_console {
        return false;
    }
    let stdin = rustix::stdio::stdin();
    let foreground =
        rustix::termios::tcgetpgrp(stdin).is_ok_and(|group| group == rustix::process::getpgrp());
    args.console || rustix::termios::isatty(stdin) && foreground
}

/// How many connections the descriptors allow.
fn descriptors(limit: u64) -> usize {
    let used = std::fs::read_dir("/proc/self/fd").map_or(64, Iterator::count);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    limit.saturating_sub(used + KEPT + SLACK).max(1)
}

/// Fills with random bytes.
///
/// # Errors
/// The system has none: one line.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), String> {
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut bytes[filled..], flags) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(format!("random numbers: {}", ipc::errno_text(errno))),
        }
    }
    Ok(())
}

/// The secret of `tcp_token_file`, which nobody else may be able to read.
fn secret(path: &std::path::Path) -> Result<rtm_tables::Secret, String> {
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;
    let place = format!("listen.tcp_token_file: {}", path.display());
    let wrong =
        |error: std::io::Error| format!("{place}: {}", crate::runtime_dir::errno_text(&error));
    let file = std::fs::File::open(path).map_err(wrong)?;
    let mode = file.metadata().map_err(wrong)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "{place}: has mode {mode:04o}: others can read it; 0600 would be right"
        ));
    }
    let mut content = Vec::new();
    file.take(8192).read_to_end(&mut content).map_err(wrong)?;
    rtm_tables::Secret::of_file(&content).map_err(|why| format!("{place}: {why}"))
}

fn core(config: Config, publish_name: Option<&str>) -> Result<Core, String> {
    let mut random = [0; 24];
    crate::start::random(&mut random)?;
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&random[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    // 0 stands for "no epoch" on the wire.
    let (epoch, key) = (Epoch(word(0).max(1)), DigestKey([word(8), word(16)]));
    let table = Table::new(epoch, key, table_limits(&config));
    let hub = Hub::new(&table, key, hub_limits(&config));
    let image = Image::new(&config.limits, &table, key.0, publish_name)?;
    Ok(Core::new(table, hub, image, config, crate::names::of_host()))
}

fn table_limits(config: &Config) -> TableLimits {
    TableLimits {
        transaction_bytes_max: config.limits.transaction_bytes_max() as usize,
        tombstone_bytes_max: config.limits.tombstone_bytes_max.0 as usize,
        ..TableLimits::default()
    }
}

fn hub_limits(config: &Config) -> HubLimits {
    let limits = &config.limits;
    HubLimits {
        journal_bytes: limits.journal_bytes.0 as usize,
        filter_journal_bytes: FILTER_JOURNAL_BYTES,
        snapshot_bytes_max: limits.snapshot_bytes_max.0 as usize,
        session_output_bytes: limits.session_output_bytes.0 as usize,
        frame_bytes_max: limits.frame_bytes_max.0 as usize,
        filters_max: limits.filters_max.0 as usize,
        filters_per_uid_max: limits.filters_per_uid_max.0 as usize,
        hello_timeout_ms: limits.hello_timeout_s.0 * 1000,
        heartbeat_ms: limits.heartbeat_s.0 * 1000,
        dead_ms: limits.dead_s.0 * 1000,
    }
}

/// Reads the configuration again and puts it into force. What is wrong with it
/// leaves the old one as it is.
pub(crate) fn reload(daemon: &mut Daemon) -> Reply {
    daemon.manager.reloading();
    let reply = try_reload(daemon).unwrap_or_else(|why| {
        let text = format!("configuration: {why}");
        tracing::error!("not reloaded: {text}");
        Reply::usage(text)
    });
    daemon.manager.ready();
    reply
}

fn try_reload(daemon: &mut Daemon) -> Result<Reply, String> {
    let config = config::load(&daemon.overrides).map_err(|error| error.to_string())?;
    let admins = Admins::of_host(&config.roles)?;
    let token = config.listen.tcp_token_file.as_deref().map(secret).transpose()?;
    let old = &daemon.core.config;
    let mut changed = Vec::new();
    if config.limits != old.limits {
        changed.push("limits".to_owned());
    }
    if admins != daemon.admins {
        changed.push("roles, for connections from now on".to_owned());
    }
    if config.distance != old.distance {
        changed.push("distance, for what is added from now on".to_owned());
    }
    if config.log != old.log {
        changed.push("log".to_owned());
    }
    if config.listen.tcp != old.listen.tcp {
        changed.push("listen.tcp needs a restart".to_owned());
    }
    if config.queue != old.queue {
        changed.push("queue needs a restart".to_owned());
    }
    if config.fifo != old.fifo {
        changed.push("fifo needs a restart".to_owned());
    }
    if config.fpm.listen != old.fpm.listen {
        changed.push("fpm.listen needs a restart".to_owned());
    } else if config.fpm != old.fpm {
        changed.push("fpm".to_owned());
    }
    if config.kernel != old.kernel {
        changed.push("kernel needs a restart".to_owned());
    }
    if config.export != old.export {
        changed.push("export needs a restart".to_owned());
    }
    *daemon.core.table.limits_mut() = table_limits(&config);
    daemon.core.hub.set_limits(hub_limits(&config));
    daemon.facts.log.set_level(config.log.level.0);
    daemon.core.names = crate::names::of_host();
    daemon.admins = admins;
    if token != daemon.clients.secret {
        changed.push("listen.tcp_token_file, for connections from now on".to_owned());
        daemon.clients.secret = token;
    }
    daemon.core.configure(config);
    if let Some(fpm) = &mut daemon.fpm {
        fpm.configure(&mut daemon.core);
    }
    tracing::info!(
        "reloaded: {}",
        if changed.is_empty() { "nothing changed".to_owned() } else { changed.join("; ") }
    );
    Ok(reload_reply(&changed))
}
