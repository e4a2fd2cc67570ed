//! `status`, `stat`, `source list`: how the daemon is.

use std::time::{Duration, Instant};

use rtm_tables::wire::{ItemFlags, ItemKind};
use rtm_tables::{SourceClass, SourceId};
use serde_json::{Value, json};

use super::{Answer, Around, Reply, Step};
use crate::core::Core;
use crate::feeds::commands::FeedStats;
use crate::inventory::Row;
use crate::log::Log;
use crate::time::utc;

/// What the daemon runs with.
pub(crate) struct Facts {
    /// The runtime directory.
    pub(crate) runtime_dir: String,
    /// The Unix socket.
    pub(crate) socket: String,
    /// The TCP address, if there is one.
    pub(crate) tcp: Option<String>,
    /// The message queue's name, how many messages it holds and how long they
    /// may be.
    pub(crate) queue: Option<(String, (usize, usize))>,
    /// The path of the socket of fixed structures.
    pub(crate) classic: Option<String>,
    /// The FIFO's path.
    pub(crate) fifo: Option<String>,
    /// Where FPM is listened.
    pub(crate) fpm: Option<String>,
    /// When it started: for people, and to count from.
    pub(crate) since: Duration,
    /// The same moment.
    pub(crate) started: Instant,
    /// What could not be made; the daemon runs on without.
    pub(crate) warnings: Vec<String>,
    /// `--load`, as it stands.
    pub(crate) load: Value,
    /// Its log.
    pub(crate) log: Log,
    /// Its descriptors beside the connections', as they were when somebody asked.
    pub(crate) inventory: Vec<Row>,
}

fn say(value: &Value, out: &mut dyn Answer) -> Step {
    if out.item(ItemKind::Json, ItemFlags::default(), value.to_string().as_bytes()) {
        Step::Done(Reply::done())
    } else {
        Step::NoRoom
    }
}

/// `status`: always everything; who shows it leaves out.
pub(crate) fn status(core: &Core, around: &Around<'_>, out: &mut dyn Answer) -> Step {
    let (facts, turns) = (around.facts, around.turns);
    let (counts, hub) = (core.table.counts(), core.hub.stats());
    let micros = |duration: Duration| duration.as_nanos() as f64 / 1000.0;
    let histogram: Vec<Value> = turns
        .turns
        .octaves()
        .map(|(up_to, count)| json!({ "up_to_us": micros(up_to), "count": count }))
        .collect();
    let stages: Vec<Value> = turns
        .stages()
        .map(|(name, stage)| {
            json!({
                "name": name,
                "total_ms": stage.total.as_millis() as u64,
                "longest_us": micros(stage.longest),
                "overruns": stage.overruns,
            })
        })
        .collect();
    let wakeups: serde_json::Map<String, Value> =
        turns.wakeups().map(|(name, count)| (name.to_owned(), count.into())).collect();
    let mut value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "since": utc(facts.since),
        "uptime_s": facts.started.elapsed().as_secs(),
        "runtime_dir": facts.runtime_dir,
        "socket": facts.socket,
        "tcp": facts.tcp,
        "epoch": format!("{:016x}", core.table.epoch().0),
        "revision": core.table.revision().0,
        "held": core.is_held(),
        "routes_v4": counts.store.routes4,
        "routes_v6": counts.store.routes6,
        "neighbours": counts.store.neighbours,
        "keys": counts.store.macs,
        "links": counts.store.links,
        "groups": counts.store.groups,
        "candidates": counts.candidates,
        "tombstones": counts.tombstones,
        "tombstone_bytes": counts.tombstone_bytes,
        "table_bytes": counts.bytes,
        "journal_bytes": hub.journal_bytes,
        "snapshot_bytes": hub.snapshot_bytes,
        "generations": hub.generations,
        "filters": hub.filters,
        "subscribers": hub.subscribers,
        // The one that asks isn't among the others.
        "sessions": around.clients.len() + usize::from(out.own_info(core).is_some()),
        "sessions_max": around.clients.sessions_max(core),
        "resident_bytes": resident_bytes(),
        "log_dropped": facts.log.dropped(),
        "warnings": facts.warnings,
        "load": facts.load,
        "turns": {
            "count": turns.turns.count(),
            "p50_us": micros(turns.turns.quantile(0.5)),
            "p99_us": micros(turns.turns.quantile(0.99)),
            "longest_us": micros(turns.turns.longest()),
            "busy_ms": turns.turns.sum().as_millis() as u64,
            "histogram": histogram,
            "stages": stages,
            "wakeups": wakeups,
        },
    });
    let image = core.image.status();
    value["image_bytes"] = image.status.bytes.into();
    value["image_behind"] = image.behind.into();
    value["image_name"] = image.name.into();
    value["queue"] = queue(core, facts);
    value["classic"] = json!(facts.classic);
    value["classic_bytes"] = hub.classic_bytes.into();
    value["fifo"] = fifo(core, facts);
    value["fpm"] = json!(facts.fpm);
    value["kernel"] = core.kernel.facts();
    value["export"] = core.export.facts();
    value["proofs_refused"] = core.counters.proofs_refused.into();
    value["requests_refused"] = core.counters.requests_refused.into();
    value["protocol_errors"] = core.counters.protocol_errors.into();
    value["fell_behind"] = core.counters.fell_behind.into();
    value["registrations_refused"] = core.counters.registrations_refused.into();
    say(&value, out)
}

/// The message queue: `null` where there is none.
fn queue(core: &Core, facts: &Facts) -> Value {
    let Some((name, (depth, message_bytes))) = &facts.queue else { return Value::Null };
    let mut value = feed(&core.feeds.queue);
    value["name"] = json!(name);
    value["depth"] = json!(depth);
    value["message_bytes"] = json!(message_bytes);
    value
}

/// The FIFO.
fn fifo(core: &Core, facts: &Facts) -> Value {
    let Some(path) = &facts.fifo else { return Value::Null };
    let mut value = feed(&core.feeds.fifo);
    value["path"] = json!(path);
    value
}

fn feed(stats: &FeedStats) -> Value {
    json!({
        "messages": stats.messages,
        "bytes": stats.bytes,
        "applied": stats.applied,
        "unchanged": stats.unchanged,
        "rejected": stats.rejected,
        "overruns": stats.overruns,
    })
}

/// `status image`: the writer's side; what the mapping says its reader sees.
pub(crate) fn image(core: &Core, out: &mut dyn Answer) -> Step {
    let image = core.image.status();
    let (status, usage) = (image.status, image.status.usage);
    let parts: Vec<Value> = core
        .image
        .parts()
        .into_iter()
        .map(|part| {
            json!({
                "name": part.name,
                "count": part.count,
                "bytes": part.bytes,
                "free_bytes": part.free_bytes,
            })
        })
        .collect();
    let value = json!({
        "object_bytes": status.bytes,
        "object_bytes_max": core.config.limits.image_bytes_max.0,
        "heap_bytes": usage.heap,
        "used_bytes": usage.used,
        "retired_bytes": usage.retired,
        "retired_blocks": usage.retired_blocks,
        "free_bytes": usage.free,
        "version": status.version,
        "revision": image.revision.0,
        "behind": image.behind,
        "tables": status.tables,
        "answers": status.answers,
        "name": image.name,
        "name_failed": image.name_failed,
        "refused": image.refused,
        "growing": status.growing,
        "hurried": status.hurried,
        "failed": image.failed,
        "nodes": parts,
    });
    say(&value, out)
}

/// `stat`: counters that only grow, and a few that don't.
pub(crate) fn stat(core: &Core, around: &Around<'_>, out: &mut dyn Answer) -> Step {
    let (counters, counts, hub) = (&core.counters, core.table.counts().store, core.hub.stats());
    let sessions = around.clients.totals(core);
    let value = json!({
        "changes": counters.changes,
        "unchanged": counters.unchanged,
        "refused": counters.refused,
        "requests": counters.requests,
        "records": hub.journal_records,
        "bytes_in": counters.bytes_in,
        "bytes_out": counters.bytes_out,
        "accepted": counters.accepted,
        "refused_connections": counters.refused_connections,
        "requests_refused": counters.requests_refused,
        "protocol_errors": counters.protocol_errors,
        "fell_behind": counters.fell_behind,
        "registrations_refused": counters.registrations_refused,
        "snapshots_encoded": hub.snapshots_encoded,
        "snapshots": sessions.snapshots,
        "resumes": sessions.resumes,
        "resyncs": sessions.resyncs,
        "conflated": sessions.conflated,
        "turns": around.turns.turns.count(),
        "sessions": around.clients.len() + usize::from(out.own_info(core).is_some()),
        "subscribers": hub.subscribers,
        "revision": core.table.revision().0,
        "routes": counts.routes4 + counts.routes6,
        "neighbours": counts.neighbours,
    });
    say(&value, out)
}

/// Memory of this process that is in RAM: proc_pid_statm(5).
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// `source list`.
#[derive(Default)]
pub(crate) struct Sources {
    after: Option<SourceId>,
}

impl Sources {
    pub(crate) fn step(&mut self, core: &Core, out: &mut dyn Answer) -> Step {
        let after = self.after;
        for source in core.table.sources().filter(|source| after.is_none_or(|id| source.id > id)) {
            let (class, peer) = match source.spec.class {
                SourceClass::Admin => ("admin", None),
                SourceClass::Kernel => ("kernel", None),
                SourceClass::Fpm(address) => ("fpm", Some(address.to_string())),
                SourceClass::File => ("file", None),
            };
            let mut value = json!({
                "name": source.spec.name,
                "class": class,
                "peer": peer,
                "distance": source.spec.distances.default_distance(),
                "routes": source.routes,
                "winners": source.winners,
                "neighbours": source.neighbours,
                "generation": source.generation,
                "in_generation": source.in_generation,
                "stale": source.stale,
                "last_message": match core.kernel.source {
                    Some(id) if id == source.id => core.kernel.last_message,
                    _ => None,
                }
                .map(|at| format!("{:.1} s ago", core.now.saturating_sub(at) as f64 / 1000.0)),
            });
            if let Some(peer) = core.fpm.iter().find(|peer| peer.is_of(source.id)) {
                let ago = core.now.saturating_sub(peer.heard()) as f64 / 1000.0;
                value["last_message"] = json!(format!("{ago:.1} s ago"));
                value["fpm"] = peer.json();
            }
            if !out.item(ItemKind::Json, ItemFlags::default(), value.to_string().as_bytes()) {
                return Step::NoRoom;
            }
            self.after = Some(source.id);
        }
        Step::Done(Reply::done())
    }
}

/// Can `source reconcile` compare this source with what it mirrors?
///
/// # Errors
/// Why not, and what would be right.
pub(super) fn reconcilable(core: &Core, name: &str) -> Result<(), &'static str> {
    match name {
        "kernel" if core.kernel.source.is_some() => Ok(()),
        "kernel" => Err("this daemon doesn't mirror the kernel; rtmd --kernel would be right"),
        _ if core.table.sources().any(|source| source.spec.name == name) => {
            Err("nothing to compare it with; kernel would be right")
        }
        _ => Err("there is no such source; 'source list' shows them"),
    }
}

/// `source reconcile kernel`: everything is listed again; what differed is told.
pub(crate) struct Reconcile {
    ticket: u64,
    told: usize,
}

/// How often it is looked whether the listing has ended: nothing else tells.
const LOOK_MS: u64 = 20;

impl Reconcile {
    pub(crate) fn new(core: &mut Core) -> Reconcile {
        core.kernel.asked += 1;
        Reconcile { ticket: core.kernel.asked, told: 0 }
    }

    pub(crate) fn step(&mut self, core: &Core, out: &mut dyn Answer) -> Step {
        if core.kernel.done < self.ticket {
            return Step::Wait(super::Until { deadline: Some(core.now + LOOK_MS) });
        }
        let report = &core.kernel.report;
        while let Some(line) = report.get(self.told) {
            let value = json!({ "line": line });
            if !out.item(ItemKind::Json, ItemFlags::default(), value.to_string().as_bytes()) {
                return Step::NoRoom;
            }
            self.told += 1;
        }
        let count = report.len() as u64 + core.kernel.more;
        let text = match (count, core.kernel.more) {
            (0, _) => "nothing differed".to_owned(),
            (count, 0) => format!("{count} routes differed; they are mended"),
            (count, more) => format!("{count} routes differed ({more} not shown); they are mended"),
        };
        Step::Done(Reply { text, ..Reply::done() })
    }
}
