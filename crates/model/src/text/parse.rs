//! From words to a [`Command`].

use std::time::Duration;

use super::command::{
    Barrier, ClientRun, Command, FlushWhat, Lookup, LookupInput, Monitor, Object, Peer, Position,
    Shell, Topic, Wait, WaitFor,
};
use super::error::TextError;
use super::options::Options;
use super::parse_entries::{neighbour_command, route_command, table_word};
use super::selector::{NeighbourSelector, RouteSelector, source_name, unknown_option};
use super::value;
use super::words::{Cursor, Word, Words};
use super::{Context, neighbour, route, tables};
use crate::change::{NeighbourSpec, RouteSpec, Verb};
use crate::route::TABLE_MAIN;

/// The default of `stat -i`.
const STAT_INTERVAL: Duration = Duration::from_secs(1);
/// `MQ_PRIO_MAX - 1`.
const MQ_PRIORITY_MAX: u32 = 32_767;

/// The command of a line: of the console, a batch file, the queue, the FIFO.
/// `None`: the line is empty or only a comment. The family in `cx` holds where
/// the line names none.
///
/// # Errors
/// Anything that is no command; also options that belong on `rtm`'s own
/// command line (`--socket`, `-batch`, …).
pub fn parse_line(line: &str, cx: &Context<'_>) -> Result<Option<(Options, Command)>, TextError> {
    let mut words = Words::default();
    words.split(line)?;
    let list = words.as_slice();
    if list.is_empty() {
        return Ok(None);
    }
    if !words.has_options() {
        let command = command(&mut Cursor::new(&words), cx, &Options::default())?;
        return Ok(Some((Options::default(), command)));
    }
    let (options, rest) = Options::extract(&words)?;
    let outside = options.batch.is_some()
        || options.socket.is_some()
        || options.runtime_dir.is_some()
        || options.token_file.is_some();
    if outside {
        let word = list.iter().find(|word| word.is_option()).copied().unwrap_or_default();
        return Err(TextError::new(
            "option",
            word,
            "it belongs to the command line of rtm, not into a line",
            "a line without it",
        ));
    }
    let command = with_options(&rest, cx, &options)?;
    Ok(Some((options, command)))
}

/// The route of a line that `ip route show` or our printer wrote (with `-o`,
/// or its line feeds left in). What it leaves out has the value that it leaves
/// out; see [`Context::listing`], which is taken as set.
///
/// # Errors
/// Not such a line.
pub fn parse_printed_route(line: &str, cx: &Context<'_>) -> Result<RouteSpec, TextError> {
    let cx = Context { listing: true, ..*cx };
    route::route(Verb::Replace, &mut Cursor::new(&Words::of_printed(line)), &cx)
}

/// The neighbour of a line that `ip neigh show` or our printer wrote.
///
/// # Errors
/// Not such a line.
pub fn parse_printed_neighbour(line: &str, cx: &Context<'_>) -> Result<NeighbourSpec, TextError> {
    let cx = Context { listing: true, ..*cx };
    neighbour::neighbour(Verb::Replace, &mut Cursor::new(&Words::of_printed(line)), &cx)
}

/// The command of `rtm`'s arguments (without the program's name).
///
/// # Errors
/// Anything that is no command; nothing at all.
pub fn parse_args<S: AsRef<str>>(
    args: &[S],
    cx: &Context<'_>,
) -> Result<(Options, Command), TextError> {
    let words = Words::of_args(args);
    let (options, rest) = Options::extract(&words)?;
    let command = with_options(&rest, cx, &options)?;
    Ok((options, command))
}

fn with_options(
    words: &Words<'_>,
    cx: &Context<'_>,
    options: &Options,
) -> Result<Command, TextError> {
    let cx = Context { family: options.family.or(cx.family), ..*cx };
    let mut cursor = Cursor::new(words);
    if options.version {
        return Ok(Command::Version);
    }
    if options.help {
        return Ok(Command::Help(topic(&mut cursor)));
    }
    if let Some(file) = &options.batch {
        cursor.finish("-batch")?;
        return Ok(Command::Batch { file: file.as_str().into() });
    }
    command(&mut cursor, &cx, options)
}

/// What `-h` is about: the words before it, as far as they are known.
fn topic(cursor: &mut Cursor<'_, '_>) -> Topic {
    let object = cursor.next().and_then(|word| tables::object(word.text));
    let Some(object) = object else {
        return Topic::default();
    };
    let verb = cursor.next().and_then(|word| tables::verb(object, word.text));
    Topic { object: Some(object), verb: verb.filter(|&verb| verb != "help") }
}

#[inline]
fn command(
    cursor: &mut Cursor<'_, '_>,
    cx: &Context<'_>,
    options: &Options,
) -> Result<Command, TextError> {
    let Some(word) = cursor.next() else {
        return Err(cursor.missing("command", "a command like route show would be right; see -h"));
    };
    let Some(object) = tables::object(word.text) else {
        if word.is_option() {
            return Err(unknown_option(word));
        }
        return Err(TextError::new(
            "command",
            word,
            "unknown",
            "route, neigh, lookup, monitor, wait, client, status, digest, sync, source, flush, mq, stat, latency, tour, reload, completion or help",
        ));
    };
    match object {
        Object::Route => route_command(cursor, cx, options),
        Object::Neighbour => neighbour_command(cursor, cx),
        Object::Lookup => lookup(cursor, cx),
        Object::Monitor => monitor(cursor, cx),
        Object::Wait => wait(cursor, cx),
        Object::Client => client(cursor),
        Object::Status => {
            let Some(word) = cursor.next() else {
                return Ok(Command::Status);
            };
            let verb = known(object, word)?;
            cursor.finish("status")?;
            Ok(if verb == "image" { Command::StatusImage } else { help(object, None) })
        }
        Object::Digest => {
            let mut resolved = false;
            while let Some(word) = cursor.next() {
                match word.text {
                    "--resolved" if word.is_option() => resolved = true,
                    _ if is_help(word) => return Ok(help(object, None)),
                    _ => return Err(unexpected("digest", word, "--resolved")),
                }
            }
            Ok(Command::Digest { resolved })
        }
        Object::Sync => sync(cursor),
        Object::Source => source(cursor),
        Object::Flush => {
            let what = match cursor.next() {
                None => FlushWhat::All,
                Some(word) => match known(object, word)? {
                    "routes" => FlushWhat::Routes,
                    "neighbours" => FlushWhat::Neighbours,
                    "all" => FlushWhat::All,
                    _ => return Ok(help(object, None)),
                },
            };
            cursor.finish("flush")?;
            Ok(Command::Flush(what))
        }
        Object::Mq => mq(cursor),
        Object::Stat => stat(cursor),
        Object::Latency => plain(cursor, object, Command::Latency),
        Object::Tour => plain(cursor, object, Command::Tour),
        Object::Reload => plain(cursor, object, Command::Reload),
        Object::Completion => {
            let word = cursor.value("completion", "bash, zsh or fish would be right")?;
            let shell = match known(object, word)? {
                "bash" => Shell::Bash,
                "zsh" => Shell::Zsh,
                "fish" => Shell::Fish,
                _ => return Ok(help(object, None)),
            };
            cursor.finish("completion")?;
            Ok(Command::Completion(shell))
        }
        Object::Help | Object::Batch => Ok(Command::Help(topic(cursor))),
    }
}

/// The verb that `word` means, or an error that lists the verbs.
pub(super) fn known(object: Object, word: Word<'_>) -> Result<&'static str, TextError> {
    tables::verb(object, word.text).filter(|_| !word.is_option()).ok_or_else(|| {
        if word.is_option() {
            return unknown_option(word);
        }
        let verbs: Vec<&str> = tables::verbs(object)
            .iter()
            .map(|&verb| match (object, verb) {
                (Object::Client | Object::Source, "show") => "list",
                _ => verb,
            })
            .collect();
        TextError::new(
            object.name(),
            word,
            "unknown verb",
            format!("one of {} would be right", verbs.join(", ")),
        )
    })
}

pub(super) fn help(object: Object, verb: Option<&'static str>) -> Command {
    Command::Help(Topic { object: Some(object), verb })
}

pub(super) fn is_help(word: Word<'_>) -> bool {
    !word.literal && word.text == "help"
}

pub(super) fn unexpected(what: &'static str, word: Word<'_>, right: &'static str) -> TextError {
    if word.is_option() {
        return TextError::new("option", word, "unknown here", format!("one of {right}"));
    }
    TextError::new(what, word, "not expected here", format!("one of {right}"))
}

fn plain(
    cursor: &mut Cursor<'_, '_>,
    object: Object,
    command: Command,
) -> Result<Command, TextError> {
    if cursor.peek().is_some_and(is_help) {
        return Ok(help(object, None));
    }
    cursor.finish(object.name())?;
    Ok(command)
}

/// The value of an option: behind its equals sign, or the next word.
pub(super) fn option_value<'a>(
    word: Word<'a>,
    cursor: &mut Cursor<'_, 'a>,
    right: &'static str,
) -> Result<Word<'a>, TextError> {
    match word.text.split_once('=') {
        Some((_, text)) => Ok(Word { text, ..word }),
        None => cursor.value("option", right),
    }
}

/// The name of an option, without what follows an equals sign.
pub(super) fn option_name<'a>(word: Word<'a>) -> &'a str {
    word.text.split_once('=').map_or(word.text, |(name, _)| name)
}

fn lookup(cursor: &mut Cursor<'_, '_>, cx: &Context<'_>) -> Result<Command, TextError> {
    let mut addresses = Vec::new();
    let mut stdin = false;
    let mut table = None;
    let mut json_fields: Vec<Box<str>> = Vec::new();
    while let Some(word) = cursor.next() {
        if is_help(word) {
            return Ok(help(Object::Lookup, None));
        }
        if word.is_option() {
            if option_name(word) != "--json-field" {
                return Err(unexpected("lookup", word, "--json-field"));
            }
            let value = option_value(word, cursor, "--json-field NAME,… would be right")?;
            for name in value.text.split(',') {
                if name.is_empty() {
                    return Err(TextError::new(
                        "--json-field",
                        value,
                        "an empty name",
                        "like src_ip,dst_ip",
                    ));
                }
                json_fields.push(name.into());
            }
        } else if word.text == "-" {
            stdin = true;
        } else if !table_word(word.text, cursor, cx, &mut table)? {
            addresses.push(value::address_of("address", word, cx.family)?);
        }
    }
    if stdin != addresses.is_empty() {
        return Err(cursor.missing("address", "either addresses, or - for standard input"));
    }
    let input = if stdin { LookupInput::Stdin } else { LookupInput::Addresses(addresses) };
    Ok(Command::Lookup(Lookup {
        table: table.filter(|&id| id != 0).unwrap_or(TABLE_MAIN),
        input,
        json_fields,
    }))
}

fn monitor(cursor: &mut Cursor<'_, '_>, cx: &Context<'_>) -> Result<Command, TextError> {
    const WORDS: [&str; 9] =
        ["route", "neigh", "link", "flush", "all", "exact", "match", "root", "label"];
    let mut out = Monitor { family: cx.family, ..Monitor::default() };
    while let Some(word) = cursor.next() {
        if word.is_option() {
            match option_name(word) {
                "--initial" => out.initial = true,
                "--from" => {
                    let value = option_value(word, cursor, "--from EPOCH:REV would be right")?;
                    out.from = Some(position(value)?);
                }
                "--exec" => {
                    let value = option_value(word, cursor, "--exec COMMAND would be right")?;
                    out.exec = Some(value.text.into());
                }
                _ => return Err(unexpected("monitor", word, "--initial, --from, --exec")),
            }
            continue;
        }
        if is_help(word) {
            return Ok(help(Object::Monitor, None));
        }
        let starts = |name: &&&str| !word.text.is_empty() && name.starts_with(word.text);
        let found = WORDS.iter().find(|name| **name == word.text);
        match found.or_else(|| WORDS.iter().find(starts)).copied() {
            Some("route") => out.routes = true,
            Some("neigh") => out.neighbours = true,
            Some("link") => out.links = true,
            Some("flush") => out.flushes = true,
            Some("all") => (out.rejected, out.label) = (true, true),
            Some("label") => out.label = true,
            Some(_) => {
                if out.prefix.is_some() {
                    return Err(TextError::new(
                        "destination",
                        word,
                        "a second destination",
                        "one would be right",
                    ));
                }
                cursor.back();
                let mut words = Words::default();
                words.extend(cursor, 2);
                let selector =
                    RouteSelector::read(&mut Cursor::new(&words), cx, &mut |_, _| Ok(false))?;
                out.prefix = selector.prefix;
                out.family = out.family.or(selector.family);
            }
            None => {
                return Err(unexpected(
                    "monitor",
                    word,
                    "route, neigh, link, flush, all, label, exact, match, root",
                ));
            }
        }
    }
    if !(out.routes || out.neighbours || out.links || out.flushes) {
        (out.routes, out.neighbours, out.links, out.flushes) = (true, true, true, true);
    }
    Ok(Command::Monitor(out))
}

fn position(word: Word<'_>) -> Result<Position, TextError> {
    let parse = || {
        let (epoch, revision) = word.text.split_once(':')?;
        if epoch.is_empty() || epoch.len() > 16 || epoch.starts_with('+') {
            return None;
        }
        let epoch = u64::from_str_radix(epoch, 16).ok()?;
        let revision = revision.parse().ok().filter(|_| !revision.starts_with('+'))?;
        Some(Position { epoch, revision })
    };
    parse().ok_or_else(|| {
        TextError::new(
            "--from",
            word,
            "not a place in a history",
            "EPOCH:REVISION as rtm digest prints them, like 0123456789abcdef:42",
        )
    })
}

fn wait<'a>(cursor: &mut Cursor<'_, 'a>, cx: &Context<'_>) -> Result<Command, TextError> {
    let word = cursor.value("wait", "wait route SELECTOR or wait neigh SELECTOR")?;
    let verb = known(Object::Wait, word)?;
    let (mut gone, mut timeout) = (false, None);
    let mut option = |word: Word<'a>, cursor: &mut Cursor<'_, 'a>| {
        match option_name(word) {
            "--gone" => gone = true,
            "--timeout" => {
                let value = option_value(word, cursor, "--timeout SECONDS would be right")?;
                timeout = Some(value::duration("--timeout", value)?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    };
    let what = match verb {
        "route" => WaitFor::Route(RouteSelector::read(cursor, cx, &mut option)?),
        "neigh" => WaitFor::Neighbour(NeighbourSelector::read(cursor, cx, &mut option)?),
        _ => return Ok(help(Object::Wait, None)),
    };
    Ok(Command::Wait(Wait { what, gone, timeout }))
}

fn client(cursor: &mut Cursor<'_, '_>) -> Result<Command, TextError> {
    let mut run = ClientRun::default();
    let (mut ran, mut futex) = (false, None);
    while let Some(word) = cursor.next() {
        if word.is_option() {
            ran = true;
            match option_name(word) {
                "--name" => {
                    let value = option_value(word, cursor, "--name NAME would be right")?;
                    run.name = Some(client_name(value)?.into());
                }
                "--mapped" => run.mapped = true,
                "--futex" => futex = Some(word),
                "--keys" => run.keys = true,
                "--menu" => run.menu = true,
                "--once" => run.once = true,
                "--verify" => run.verify = true,
                "--count" => run.count = true,
                _ => {
                    return Err(unexpected(
                        "client",
                        word,
                        "--name, --mapped, --futex, --keys, --menu, --once, --verify, --count",
                    ));
                }
            }
            continue;
        }
        let verb = known(Object::Client, word)?;
        if ran {
            return Err(TextError::new(
                "client",
                word,
                "a verb behind options of a running client",
                "client with options, client list, or client kill NAME",
            ));
        }
        let command = match verb {
            "show" => Command::ClientList,
            "kill" => {
                let word = cursor.value("client kill", "client kill NAME or PID would be right")?;
                let pid = word.text.parse().ok().filter(|&pid| pid > 0 && !word.literal);
                Command::ClientKill(match pid {
                    Some(pid) if !word.text.starts_with('+') => Peer::Pid(pid),
                    _ => Peer::Name(client_name(word)?.into()),
                })
            }
            _ => help(Object::Client, None),
        };
        cursor.finish("client")?;
        return Ok(command);
    }
    if let (Some(word), false) = (futex, run.mapped) {
        let right = "client --mapped --futex would be right";
        return Err(TextError::new("client", word, "only with --mapped", right));
    }
    run.futex = futex.is_some();
    Ok(Command::Client(run))
}

/// The most bytes of a client's name: it stands in the daemon's listing.
pub const CLIENT_NAME_BYTES_MAX: usize = 64;

fn client_name(word: Word<'_>) -> Result<&str, TextError> {
    if word.text.is_empty()
        || word.text.len() > CLIENT_NAME_BYTES_MAX
        || word.text.contains(char::is_control)
    {
        return Err(TextError::new(
            "name",
            word,
            "not the name of a client",
            "1 to 64 bytes without control characters",
        ));
    }
    Ok(word.text)
}

fn sync(cursor: &mut Cursor<'_, '_>) -> Result<Command, TextError> {
    let mut out = Barrier::default();
    while let Some(word) = cursor.next() {
        match option_name(word) {
            _ if is_help(word) => return Ok(help(Object::Sync, None)),
            "--timeout" if word.is_option() => {
                let value = option_value(word, cursor, "--timeout SECONDS would be right")?;
                out.timeout = Some(value::duration("--timeout", value)?);
            }
            "--client" if word.is_option() => {
                let value = option_value(word, cursor, "--client NAME would be right")?;
                out.clients.push(client_name(value)?.into());
            }
            _ => return Err(unexpected("sync", word, "--timeout, --client")),
        }
    }
    Ok(Command::Sync(out))
}

fn source(cursor: &mut Cursor<'_, '_>) -> Result<Command, TextError> {
    let command = match cursor.next() {
        None => Command::SourceList,
        Some(word) => match known(Object::Source, word)? {
            "show" => Command::SourceList,
            "reconcile" => {
                let right = "source reconcile NAME would be right";
                let word = cursor.value("source reconcile", right)?;
                Command::SourceReconcile(source_name(word)?.into())
            }
            _ => help(Object::Source, None),
        },
    };
    cursor.finish("source")?;
    Ok(command)
}

fn mq(cursor: &mut Cursor<'_, '_>) -> Result<Command, TextError> {
    let word = cursor.value("mq", "mq send TEXT would be right")?;
    if known(Object::Mq, word)? != "send" {
        return Ok(help(Object::Mq, None));
    }
    let mut text = String::new();
    let mut priority = 0;
    let mut some = false;
    while let Some(word) = cursor.next() {
        if option_name(word) == "--prio" && word.is_option() {
            let value = option_value(word, cursor, "--prio N would be right")?;
            priority = value::number("--prio", value, MQ_PRIORITY_MAX)?;
            continue;
        }
        if word.is_option() {
            return Err(unexpected("mq send", word, "--prio; a text with dashes is quoted"));
        }
        if std::mem::replace(&mut some, true) {
            text.push(' ');
        }
        text.push_str(word.text);
    }
    if !some {
        return Err(cursor.missing("mq send", "mq send 'route add …' would be right"));
    }
    Ok(Command::MqSend { text: text.into(), priority })
}

fn stat(cursor: &mut Cursor<'_, '_>) -> Result<Command, TextError> {
    let mut interval = STAT_INTERVAL;
    while let Some(word) = cursor.next() {
        match option_name(word) {
            _ if is_help(word) => return Ok(help(Object::Stat, None)),
            "-i" | "--interval" if word.is_option() => {
                let value = option_value(word, cursor, "-i SECONDS would be right")?;
                interval = value::duration("-i", value)?;
                if interval < Duration::from_millis(10) {
                    return Err(TextError::new("-i", value, "too short", "10ms or longer"));
                }
            }
            _ => return Err(unexpected("stat", word, "-i")),
        }
    }
    Ok(Command::Stat { interval })
}
