//! Requests and loads against the real daemon.

mod support;

use rtm_model::EntityKind;
use rtm_tables::wire::{ItemFlags, ItemKind, LoadFlags};
use support::{Client, Rtmd, many_routes};

#[test]
fn changes_are_answered_and_followed() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    let mut follower = Client::follower(&rtmd, "follower");

    let added = admin.must("route add 122.1.1.1/32 via 10.1.1.1 dev Ethernet1");
    assert_eq!((added.applied, added.revision), (1, 1));
    let again = admin.ask("route add 122.1.1.1/32 via 10.1.1.1 dev Ethernet1");
    assert_eq!((again.code, again.failed, again.position), (2, 1, 1));
    assert_eq!(again.text, "122.1.1.1/32: exists already; 'replace' would change it");
    let same = admin.must("route replace 122.1.1.1/32 via 10.1.1.1 dev Ethernet1");
    assert_eq!((same.applied, same.unchanged, same.revision), (0, 1, 1));
    let missing = admin.ask("route del 9.9.9.9/32");
    assert_eq!(missing.code, 2);
    let wrong = admin.ask("route add 10.0.0.1/8 via 10.1.1.1");
    assert_eq!(wrong.code, 1);
    assert!(wrong.text.contains("10.0.0.0/8 would be right"), "{}", wrong.text);
    admin.must("neigh add 10.1.1.1 lladdr 02:00:00:00:00:01 dev Ethernet1");

    follower.until("both", |client| client.revision() == 2);
    follower.verify();
    assert_eq!(follower.routes(), 1);
    assert_eq!(follower.replica.as_ref().unwrap().store().counts().neighbours, 1);

    // Several at once are answered one after another.
    let ids: Vec<u64> =
        (0..20).map(|n| admin.send(&format!("route add 20.0.{n}.0/24 dev a"))).collect();
    let revisions: Vec<u64> = ids.into_iter().map(|id| admin.answer(id).revision).collect();
    assert_eq!(revisions, (3..23).collect::<Vec<u64>>());
}

#[test]
fn listings_resolve_what_they_name_and_stream() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    let lines: Vec<String> = many_routes(5000).collect();
    let loaded = admin.load(LoadFlags(0), "", lines.iter().map(String::as_str));
    assert_eq!((loaded.code, loaded.applied), (0, 5000));

    let shown = admin.must("route show");
    assert_eq!(shown.count(EntityKind::Route4), 5000);
    // Each group comes before the first route that uses it, each link before
    // the first group.
    let (mut links, mut groups) = (Vec::new(), Vec::new());
    for (kind, flags, body) in &shown.items {
        let word = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().unwrap());
        match kind {
            ItemKind::Entity(EntityKind::Link) => {
                assert!(flags.contains(ItemFlags::RESOLVES));
                links.push(word(0));
            }
            ItemKind::Entity(EntityKind::Group) => {
                assert!(links.contains(&word(16)), "a link of the group came before");
                groups.push(word(0));
            }
            ItemKind::Entity(EntityKind::Route4) => assert!(groups.contains(&word(16))),
            other => panic!("{other:?}"),
        }
    }

    assert_eq!(admin.must("route show root 10.1.0.0/16").count(EntityKind::Route4), 256);
    assert_eq!(admin.json("route show --count")["count"], 5000);
    assert_eq!(admin.json("route show root 10.1.0.0/16 --count")["count"], 256);
    assert_eq!(admin.must("route show 99.0.0.0/8").items.len(), 0);

    let got = admin.ask("route get 10.0.5.77 192.0.2.1");
    assert_eq!(got.code, 2, "one of the two has no route");
    let addresses = got.items.iter().filter(|(kind, ..)| *kind == ItemKind::Address).count();
    assert_eq!((addresses, got.count(EntityKind::Route4)), (2, 1));

    // A listing that isn't wanted any more ends at once.
    let id = admin.send("route show");
    admin.cancel(id);
    assert!(admin.answer(id).count(EntityKind::Route4) < 5000);
    assert_eq!(admin.json("route show --count")["count"], 5000);
}

#[test]
fn a_listing_survives_changes_under_it() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    let lines: Vec<String> = many_routes(30_000).collect();
    admin.load(LoadFlags(0), "", lines.iter().map(String::as_str));
    let mut other = Client::unix(&rtmd, "other");
    let id = admin.send("route show");
    // The listing stands still, as nobody reads; meanwhile every second route
    // goes, with groups and links.
    let deletes: Vec<String> = (0..30_000_u32)
        .step_by(2)
        .map(|n| format!("route del {}/24", std::net::Ipv4Addr::from(0x0a00_0000 + (n << 8))))
        .collect();
    let gone = other.load(LoadFlags(0), "", deletes.iter().map(String::as_str));
    assert_eq!((gone.code, gone.applied), (0, 15_000));
    let shown = admin.answer(id);
    let count = shown.count(EntityKind::Route4);
    assert!((15_000..30_000).contains(&count), "{count}");
}

/// Groups that a stream leaves without users go when it ends, and by themselves if it
/// stays open and nothing else happens; what a single request takes the last route of goes
/// with it.
#[test]
fn what_a_stream_leaves_behind_goes() {
    let rtmd = Rtmd::start(&["--no-console"]);
    let mut admin = Client::unix(&rtmd, "admin");
    let mut follower = Client::follower(&rtmd, "follower");
    let mut lines = Vec::new();
    for round in 0..3 {
        for number in 0..40 {
            let prefix = format!("10.{}.0.0/16", number * 37 % 251);
            lines.push(format!("route replace {prefix} via 10.255.0.{number} dev eth{round}"));
            lines.push(format!("route del {prefix}"));
        }
    }
    let empty = |follower: &mut Client, behind: u64| {
        follower.until("the groups go", |client| {
            let counts = client.replica.as_ref().unwrap().store().counts();
            client.revision() > behind && (counts.groups, counts.links) == (0, 0)
        });
        follower.verify();
        follower.revision()
    };
    // Nobody asks the daemon anything meanwhile: it wakes for this.
    admin.load_begin(LoadFlags(0), "");
    lines.iter().for_each(|line| admin.load_line(line));
    admin.flush();
    empty(&mut follower, 240);
    admin.load_end(false);

    let mut other = Client::unix(&rtmd, "other");
    let counts = |other: &mut Client| {
        let status = other.json("status");
        ["groups", "links", "revision"].map(|what| status[what].as_u64().unwrap())
    };
    let before = counts(&mut other);
    let done = other.load(LoadFlags(0), "", lines.iter().map(String::as_str));
    assert_eq!((done.code, done.applied), (0, 240));
    let after = counts(&mut other);
    assert_eq!((after[0], after[1]), (0, 0), "they went before the load was answered");
    assert!(after[2] > before[2] + 240);
    assert_eq!(empty(&mut follower, before[2] + 240), after[2]);

    other.must("route add 10.0.0.0/8 via 10.1.1.1 dev eth0");
    assert_eq!(counts(&mut other)[..2], [1, 1]);
    other.must("route del 10.0.0.0/8");
    assert_eq!(counts(&mut other)[..2], [0, 0]);
}

#[test]
fn loads_apply_stop_and_go_on() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    let lines = [
        "route add 10.0.0.0/8 dev a",
        "route add 11.0.0.0/8 dev a",
        "route del 99.0.0.0/8",
        "route add 12.0.0.0/8 dev a",
    ];
    let stopped = admin.load(LoadFlags(0), "", lines);
    assert_eq!((stopped.code, stopped.applied, stopped.failed, stopped.position), (2, 2, 1, 3));
    assert_eq!(
        stopped.text,
        "99.0.0.0/8: does not exist; 'show' lists what there is, 'add' makes one"
    );
    // What came behind was not applied, and the connection goes on.
    assert_eq!(admin.json("route show --count")["count"], 2);

    let lines =
        ["route add 10.0.0.0/8 dev a", "route add 12.0.0.0/8 dev a", "route del 98.0.0.0/8"];
    let forced = admin.load(LoadFlags::FORCE, "", lines);
    assert_eq!((forced.code, forced.applied, forced.failed, forced.position), (1, 1, 2, 1));
    assert_eq!(admin.json("route show --count")["count"], 3);
}

#[test]
fn an_atomic_load_is_one_revision_or_nothing() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    let mut follower = Client::follower(&rtmd, "follower");
    admin.must("route add 9.0.0.0/8 dev a");

    // A few: an ordinary transaction.
    let lines = ["route add 10.0.0.0/8 dev a", "route add 11.0.0.0/8 dev a"];
    let few = admin.load(LoadFlags::ATOMIC, "", lines);
    assert_eq!((few.code, few.applied, few.revision), (0, 2, 2));
    let lines = ["route add 12.0.0.0/8 dev a", "route add 11.0.0.0/8 dev a"];
    let failed = admin.load(LoadFlags::ATOMIC, "", lines);
    assert_eq!((failed.code, failed.applied, failed.position, failed.revision), (2, 0, 2, 2));

    // Many: staged. Nothing is seen before the end, then all.
    let many: Vec<String> = many_routes(5000).map(|l| l.replace(" 10.", " 20.")).collect();
    let id = admin.load_begin(LoadFlags::ATOMIC, "");
    for line in &many[..4000] {
        admin.load_line(line);
    }
    admin.flush();
    let mut other = Client::unix(&rtmd, "other");
    let patience = support::Patience::new();
    while other.json("status")["held"] != true {
        patience.check("the load holds the tables");
    }
    assert_eq!(other.json("status")["revision"], 2);
    // Somebody else's change waits until it is over.
    let waiting = other.send("route add 13.0.0.0/8 dev a");
    for line in &many[4000..] {
        admin.load_line(line);
    }
    admin.load_end(false);
    let all = admin.answer(id);
    assert_eq!((all.code, all.applied), (0, 5000), "{}", all.text);
    assert_eq!(all.revision, 3);
    assert_eq!(other.answer(waiting).revision, 4);
    follower.until("all", |client| client.revision() == 4);
    assert_eq!(follower.routes(), 5004);
    follower.verify();

    // One that fails late, and one that is given up: nothing happened.
    let id = admin.load_begin(LoadFlags::ATOMIC, "");
    for line in &many {
        admin.load_line(&line.replace(" 20.", " 30."));
    }
    admin.load_line("route add 9.0.0.0/8 dev a");
    admin.load_end(false);
    let failed = admin.answer(id);
    assert_eq!((failed.code, failed.applied, failed.position), (2, 0, 5001), "{}", failed.text);
    let id = admin.load_begin(LoadFlags::ATOMIC, "");
    for line in &many {
        admin.load_line(&line.replace(" 20.", " 30."));
    }
    admin.load_end(true);
    assert_eq!(admin.answer(id).code, 2);
    // One whose client vanishes.
    let mut gone = Client::unix(&rtmd, "gone");
    gone.load_begin(LoadFlags::ATOMIC, "");
    for line in &many {
        gone.load_line(&line.replace(" 20.", " 30."));
    }
    gone.flush();
    drop(gone);
    assert_eq!(admin.must("route add 14.0.0.0/8 dev a").revision, 5);
    assert_eq!(admin.json("route show --count")["count"], 5005);
}

#[test]
fn a_source_is_replaced_as_a_whole() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    admin.must("route add 10.0.0.0/8 dev a");
    let lines = ["route replace 10.0.0.0/8 dev b", "route replace 11.0.0.0/8 dev b"];
    let first = admin.load(LoadFlags::WHOLE, "lab", lines);
    assert_eq!(first.code, 0, "{}", first.text);
    // admin is nearer than a file: the file's candidate waits.
    let all = admin.must("route show 10.0.0.0/8 --all");
    let candidates = all.items.iter().filter(|(k, ..)| *k == ItemKind::Candidate4).count();
    assert_eq!(candidates, 2);
    assert_eq!(admin.json("route show source lab --count")["count"], 1);
    let sources = admin.must("source list").json();
    let names: Vec<&str> = sources.iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["admin", "lab"]);
    assert_eq!((sources[1]["routes"].as_u64(), sources[1]["winners"].as_u64()), (Some(2), Some(1)));

    admin.load(LoadFlags::WHOLE, "lab", ["route replace 12.0.0.0/8 dev b"]);
    let patience = support::Patience::new();
    while admin.json("route show --count")["count"] != 2 {
        patience.check("what the source no longer offers goes");
    }
    admin.load(LoadFlags::WHOLE, "lab", []);
    while admin.json("route show --count")["count"] != 1 {
        patience.check("an empty file empties the source");
    }
    // A stream that is given up in its middle empties nothing.
    let lines = ["route replace 12.0.0.0/8 dev b", "route replace 13.0.0.0/8 dev b"];
    admin.load(LoadFlags::WHOLE, "lab", lines);
    let id = admin.load_begin(LoadFlags::WHOLE, "lab");
    admin.load_line("route replace 14.0.0.0/8 dev b");
    admin.load_end(true);
    assert_eq!(admin.answer(id).applied, 1);
    assert_eq!(admin.json("route show source lab --count")["count"], 3);
    let admin_whole = admin.load(LoadFlags::WHOLE, "", []);
    assert_eq!(admin_whole.code, 1);
    assert!(admin_whole.text.contains("many write it"), "{}", admin_whole.text);
}

#[test]
fn a_flush_with_a_selector_deletes_what_is_ours() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    let mut follower = Client::follower(&rtmd, "follower");
    let lines: Vec<String> = many_routes(3000).collect();
    admin.load(LoadFlags(0), "", lines.iter().map(String::as_str));
    admin.must("route add 10.0.0.0/24 dev x table 7");
    admin.must("-6 route add 2001:db8::/32 dev x");

    let few = admin.must("route flush root 10.1.0.0/16");
    assert_eq!(few.applied, 256);
    assert_eq!(few.revision, 3003, "one transaction");
    let many = admin.must("route flush all");
    assert_eq!(many.applied, 2744, "{many:?}");
    assert_eq!(many.revision, 3004, "one transaction");
    assert_eq!(admin.json("-6 route show --count")["count"], 1);
    assert_eq!(admin.json("route show table 7 --count")["count"], 1);
    follower.until("all", |client| client.revision() == 3004);
    assert_eq!(follower.routes(), 2);
    assert_eq!(follower.flushes, 0, "no signal, no flush record");
    follower.verify();

    let nobody = admin.ask("route flush source nobody");
    assert_eq!(nobody.code, 2);
    admin.must("neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 nud reachable");
    admin.must("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02");
    assert_eq!(admin.must("neigh flush to 10.0.0.0/24 nud all").applied, 2);

    // A whole flush: one record.
    admin.must("route add 10.0.0.0/8 dev a");
    let flushed = admin.must("flush");
    assert_eq!(flushed.applied, 3);
    follower.until("the flush", |client| client.revision() >= flushed.revision);
    assert_eq!((follower.flushes, follower.routes()), (1, 0));
    follower.verify();
}

#[test]
fn digests_resolved_do_not_depend_on_the_epoch() {
    let digests: Vec<serde_json::Value> = (0..2)
        .map(|turn| {
            let rtmd = Rtmd::start(&[]);
            let mut admin = Client::unix(&rtmd, "admin");
            let lines: Vec<String> = many_routes(3000).collect();
            let lines: Vec<&str> = match turn {
                // Other links and groups get other numbers.
                0 => lines.iter().map(String::as_str).collect(),
                _ => lines.iter().rev().map(String::as_str).collect(),
            };
            admin.load(LoadFlags(0), "", lines);
            admin.must("neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev Ethernet3");
            let kept = admin.json("digest");
            assert_eq!(kept["epoch"].as_str().unwrap().len(), 16);
            assert_eq!(kept["revision"], 3001);
            let mut resolved = admin.json("digest --resolved");
            assert_ne!(kept["routes"], resolved["routes"]);
            assert_eq!(resolved["links"], "0".repeat(32));
            resolved.as_object_mut().unwrap().remove("counts");
            resolved
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0]["epoch"], "-");
}

#[test]
fn a_barrier_names_who_agrees() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    let names = ["one", "two", "three"];
    let threads: Vec<_> = names
        .iter()
        .map(|name| {
            let mut client = Client::follower(&rtmd, name);
            std::thread::spawn(move || {
                while client.goodbye.is_none() && !client.closed {
                    client.read();
                }
                client.verify();
            })
        })
        .collect();
    let lines: Vec<String> = many_routes(1000).collect();
    admin.load(LoadFlags(0), "", lines.iter().map(String::as_str));
    let mut agreed: Vec<String> = admin.json("sync --timeout 60")["agreed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    agreed.sort();
    assert_eq!(agreed, ["one", "three", "two"]);
    let one = admin.json("sync --timeout 60 --client two");
    assert_eq!((&one["agreed"], &one["revision"]), (&serde_json::json!(["two"]), &1000.into()));
    let nobody = admin.ask("sync --timeout 60 --client nobody");
    assert_eq!((nobody.code, &nobody.json()[0]["gone"]), (4, &serde_json::json!(["nobody"])));

    // One that never reads is named late.
    let mut deaf = Client::unix(&rtmd, "deaf");
    deaf.subscribe("");
    let patience = support::Patience::new();
    while admin.must("client list").json().len() < 4 {
        patience.check("the fourth subscriber");
    }
    let late = admin.ask("sync --timeout 0.3");
    assert_eq!((late.code, &late.json()[0]["late"]), (4, &serde_json::json!(["deaf"])));
    rtmd.signal(libc::SIGTERM);
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_wait_is_answered_when_it_happens() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    let mut waiter = Client::unix(&rtmd, "waiter");
    let late = waiter.ask("wait route 10.0.0.0/8 --timeout 0.1");
    assert_eq!(late.code, 4, "{}", late.text);
    let id = waiter.send("wait route 10.0.0.0/8");
    admin.must("route add 11.0.0.0/8 dev a");
    admin.must("route add 10.0.0.0/8 dev a");
    assert_eq!(waiter.answer(id).code, 0);
    // There already.
    waiter.must("wait route 10.0.0.0/8 --timeout 60");
    let gone = waiter.send("wait route 10.0.0.0/8 --gone");
    admin.must("route del 10.0.0.0/8");
    assert_eq!(waiter.answer(gone).code, 0);
    let neighbour = waiter.send("wait neigh 10.0.0.1 --timeout 60");
    admin.must("neigh add 10.0.0.1 lladdr 02:00:00:00:00:01");
    assert_eq!(waiter.answer(neighbour).code, 0);
    // By an attribute that only the group has.
    let via = waiter.send("wait route all via 10.9.9.9 --timeout 60");
    admin.must("route add 12.0.0.0/8 via 10.9.9.9 dev b");
    assert_eq!(waiter.answer(via).code, 0);
    // A flush is seen, too; and one that is cancelled ends.
    let flushed = waiter.send("wait route all --gone --timeout 60");
    admin.must("flush");
    assert_eq!(waiter.answer(flushed).code, 0);
    let cancelled = waiter.send("wait route 10.0.0.0/8");
    waiter.cancel(cancelled);
    assert_eq!(waiter.answer(cancelled).text, "cancelled");
}

#[test]
fn clients_are_listed_and_killed() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    let mut follower = Client::follower(&rtmd, "victim");
    let list = admin.must("client list").json();
    assert_eq!(list.len(), 1);
    let session = &list[0];
    assert_eq!(session["name"], "victim");
    assert_eq!(session["pid"], std::process::id());
    assert_eq!(session["transport"], "unix");
    assert_eq!(session["state"], "live");
    assert_eq!(session["snapshots"], 1);
    for key in [
        "uid",
        "role",
        "revision",
        "lag_records",
        "lag_ms",
        "queued_bytes",
        "sent_records",
        "conflated",
        "resumes",
        "resyncs",
        "signal",
        "since",
    ] {
        assert!(session.get(key).is_some(), "{key}");
    }
    assert_eq!(admin.must("client list -d").json().len(), 2);
    assert_eq!(admin.ask("client kill nobody").code, 2);
    assert_eq!(admin.must("client kill victim").applied, 1);
    follower.until_closed();
    let (reason, text) = follower.goodbye.unwrap();
    assert_eq!(
        (reason, text.as_str()),
        (rtm_tables::wire::GoodbyeReason::Killed, "killed by an administrator")
    );
    let patience = support::Patience::new();
    while !admin.must("client list").json().is_empty() {
        patience.check("the session is gone");
    }
}

#[test]
fn what_the_command_does_itself_is_told() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    for line in ["route load -", "mq send x", "lookup 10.0.0.1", "tour"] {
        let foreign = admin.ask(line);
        assert_eq!(foreign.code, 1);
        assert!(foreign.text.contains("belongs to the command rtm"), "{}", foreign.text);
    }
    assert_eq!(admin.ask("").code, 1);
    assert_eq!(admin.ask("# only a comment").code, 1);
}

#[test]
fn status_has_what_it_is_asked_for() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    admin.must("route add 10.0.0.0/8 dev a");
    // Then each descriptor, its own among them.
    let all = admin.must("status -d").json();
    assert!(all[1..].iter().all(|row| row["kind"].is_string()), "{all:?}");
    let own = all.iter().filter(|row| row["name"] == "unix admin").count();
    assert_eq!(own, 1, "{all:?}");
    let status = admin.json("status");
    assert_eq!(status["revision"], 1);
    assert_eq!(status["routes_v4"], 1);
    assert_eq!(status["pid"], rtmd.pid());
    assert_eq!(status["socket"], rtmd.socket().canonicalize().unwrap().to_str().unwrap());
    assert_eq!(status["sessions"], 1);
    assert!(status["turns"]["count"].as_u64().unwrap() > 0);
    assert_eq!(status["turns"]["stages"].as_array().unwrap().len(), 8);
    let before = admin.json("stat");
    admin.must("route add 11.0.0.0/8 dev a");
    let after = admin.json("stat");
    let grown = |key: &str| after[key].as_u64().unwrap() - before[key].as_u64().unwrap();
    assert_eq!((grown("changes"), grown("requests")), (1, 2));
    assert!(grown("bytes_in") > 0 && grown("bytes_out") > 0 && grown("records") > 0);
}

/// A wait looks at the whole table, in slices; what changes meanwhile is looked
/// at afterwards, and doesn't make it begin again for ever.
#[test]
fn a_wait_comes_to_its_end_while_everything_changes() {
    const CHANGES: u32 = 300_000;
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    let lines: Vec<String> = many_routes(50_000).collect();
    admin.load(LoadFlags(0), "", lines.iter().map(String::as_str));
    admin.must("route add 223.0.0.0/24 via 10.9.9.9 dev a");
    let mut waiter = Client::unix(&rtmd, "waiter");
    let mut changes = 0;
    let mut change = |admin: &mut Client| {
        // Each brings another group into being, which any route may use.
        admin.load_line(&format!("route replace 1.0.0.0/24 via 10.8.{}.1 dev b", changes % 200));
        changes += 1;
        assert!(changes < CHANGES, "it begins again at each change");
    };
    admin.load_begin(LoadFlags(0), "");
    (0..10_000).for_each(|_| change(&mut admin));
    let answered = std::thread::spawn(move || {
        waiter.must("wait route all via 10.9.9.9 --timeout 600");
    });
    while !answered.is_finished() {
        change(&mut admin);
    }
    answered.join().unwrap();
}
