//! Who may do what, and what happens when there are too many.

mod support;

use std::os::unix::net::UnixStream;
use std::process::Command;

use rtm_tables::wire::{GoodbyeReason, LoadFlags, Role};
use support::{Client, Patience, Rtmd};

/// A connection of another user: the kernel takes the thread's credentials.
fn as_user(rtmd: &Rtmd, uid: u32, groups: Vec<u32>) -> UnixStream {
    let socket = rtmd.socket();
    std::thread::spawn(move || {
        use rustix::process::{Gid, Uid};
        let groups: Vec<Gid> = groups.into_iter().map(Gid::from_raw).collect();
        rustix::thread::set_thread_groups(&groups).unwrap();
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
        rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        UnixStream::connect(socket).unwrap()
    })
    .join()
    .unwrap()
}

#[test]
fn other_users_may_read_and_are_told_what_they_lack() {
    if !support::root("other_users_may_read_and_are_told_what_they_lack") {
        return;
    }
    let configuration = "[roles]\nadmin_users = [4242]\nadmin_groups = [7777]\n";
    let rtmd = Rtmd::start_with(configuration, &[]);
    Client::unix(&rtmd, "root").must("route add 10.0.0.0/8 dev a");
    let mut reader = Client::over(as_user(&rtmd, 65534, vec![]), "reader");
    reader.must("route show");
    reader.must("status");
    assert_eq!(reader.welcome.unwrap().role, Role::Read);
    for line in [
        "route add 11.0.0.0/8 dev a",
        "neigh del 10.0.0.1",
        "route flush all",
        "flush",
        "client kill reader",
        "reload",
    ] {
        let refused = reader.ask(line);
        assert_eq!(refused.code, 2, "{line}");
        assert!(refused.text.starts_with("not permitted: "), "{line}: {}", refused.text);
        assert!(
            refused.text.ends_with("inject would be right")
                || refused.text.ends_with("admin would be right"),
            "{}",
            refused.text
        );
    }
    let load = reader.load(LoadFlags(0), "", ["route add 11.0.0.0/8 dev a"]);
    assert_eq!((load.code, load.applied), (2, 0));
    assert!(load.text.ends_with("admin would be right"), "{}", load.text);
    // And goes on.
    assert_eq!(reader.json("route show --count")["count"], 1);

    let mut named = Client::over(as_user(&rtmd, 4242, vec![]), "named");
    named.must("route add 12.0.0.0/8 dev a");
    let mut grouped = Client::over(as_user(&rtmd, 65534, vec![1, 7777]), "grouped");
    grouped.must("route add 13.0.0.0/8 dev a");
    assert_eq!(grouped.welcome.unwrap().role, Role::Admin);
    // A follower of any user has the same table.
    reader.subscribe("");
    reader.until("live", |client| client.live);
    assert_eq!(reader.routes(), 3);
    reader.verify();
}

#[test]
fn tcp_is_read_only_and_serves_both_families() {
    for (address, shown) in [("tcp://127.0.0.1:0", "127.0.0.1:"), ("tcp://[::1]:0", "[::1]:")] {
        let rtmd = Rtmd::start(&["--listen", address]);
        let mut admin = Client::unix(&rtmd, "admin");
        let tcp = admin.json("status")["tcp"].as_str().map(str::to_owned);
        let Some(tcp) = tcp else {
            assert!(address.contains("::1"), "IPv4 loopback can't be listened on");
            continue; // A machine without IPv6: it is in the warnings.
        };
        let target = tcp.strip_prefix("tcp://").unwrap();
        assert!(target.starts_with(shown), "{target}");
        admin.must("route add 10.0.0.0/8 dev a");
        let mut client = Client::tcp(target, "far");
        client.subscribe("");
        client.until("live", |client| client.live);
        assert_eq!(client.routes(), 1);
        let refused = client.ask("route add 11.0.0.0/8 dev a");
        assert_eq!((refused.code, client.welcome.unwrap().role), (2, Role::Read));
        admin.must("route add 11.0.0.0/8 dev a");
        client.until("the change", |client| client.revision() == 2);
        client.verify();
        let list = admin.must("client list").json();
        assert_eq!(
            (&list[0]["transport"], &list[0]["pid"]),
            (&"tcp".into(), &serde_json::Value::Null)
        );
    }
}

#[test]
fn a_silent_tcp_client_is_given_up() {
    let configuration = "[limits]\nheartbeat_s = 1\ndead_s = 2\n";
    let rtmd = Rtmd::start_with(configuration, &["--listen", "tcp://127.0.0.1:0"]);
    let mut admin = Client::unix(&rtmd, "admin");
    let tcp = admin.json("status")["tcp"].as_str().unwrap().to_owned();
    let mut deaf = Client::tcp(tcp.strip_prefix("tcp://").unwrap(), "deaf");
    deaf.subscribe("");
    deaf.until("live", |client| client.live);
    let patience = Patience::new();
    while !admin.must("client list").json().is_empty() {
        patience.check("it is given up");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    deaf.until_closed();
    assert_eq!(deaf.goodbye.unwrap().0, GoodbyeReason::Silent);
}

#[test]
fn too_many_are_refused_politely_and_administrators_get_in() {
    let rtmd = Rtmd::start_with("[limits]\nsessions_max = 5\n", &[]);
    let followers: Vec<Client> =
        (0..5).map(|n| Client::follower(&rtmd, &format!("follower{n}"))).collect();
    // Who is one too many may ask, as an administrator, but not follow.
    let mut admin = Client::unix(&rtmd, "admin");
    admin.must("route add 10.0.0.0/8 dev a");
    let mut sixth = Client::unix(&rtmd, "sixth");
    sixth.subscribe("");
    sixth.until_closed();
    let (reason, text) = sixth.goodbye.unwrap();
    assert_eq!(reason, GoodbyeReason::TooMany, "{text}");
    drop(followers);
    let patience = Patience::new();
    while admin.json("status")["sessions"] != 1 {
        patience.check("the followers are gone");
    }
    Client::follower(&rtmd, "again").verify();
}

#[test]
fn one_user_can_not_take_all_places() {
    if !support::root("one_user_can_not_take_all_places") {
        return;
    }
    let rtmd = Rtmd::start_with("[limits]\nsessions_per_uid_max = 3\n", &[]);
    let connect = |uid| Client::over(as_user(&rtmd, uid, vec![]), "many");
    let mut held: Vec<Client> = (0..3).map(|_| connect(65534)).collect();
    for client in &mut held {
        client.must("status");
    }
    let mut fourth = connect(65534);
    fourth.until_closed();
    let (reason, text) = fourth.goodbye.unwrap();
    assert_eq!(reason, GoodbyeReason::TooMany);
    assert!(text.contains("sessions_per_uid_max"), "{text}");
    connect(65533).must("status");
    Client::unix(&rtmd, "root").must("route add 10.0.0.0/8 dev a");
}

/// A TCP peer has no user; so that one user can't take all places over TCP,
/// all of them together have as many as one user.
#[test]
fn tcp_can_not_take_all_places_either() {
    let configuration = "[limits]\nsessions_per_uid_max = 3\n";
    let rtmd = Rtmd::start_with(configuration, &["--listen", "tcp://127.0.0.1:0"]);
    let mut admin = Client::unix(&rtmd, "admin");
    let tcp = admin.json("status")["tcp"].as_str().unwrap().to_owned();
    let target = tcp.strip_prefix("tcp://").unwrap();
    let mut held: Vec<Client> = (0..3).map(|_| Client::tcp(target, "many")).collect();
    for client in &mut held {
        client.must("status");
    }
    let mut fourth = Client::tcp(target, "many");
    fourth.until_closed();
    let (reason, text) = fourth.goodbye.unwrap();
    assert_eq!(reason, GoodbyeReason::TooMany);
    assert!(text.contains("over TCP"), "{text}");
    Client::unix(&rtmd, "other").must("status");
    // A place that gets free is taken again.
    drop(held.pop());
    let patience = Patience::new();
    while admin.json("status")["sessions"] != 3 {
        patience.check("it is gone");
    }
    Client::tcp(target, "again").must("status");
}

#[test]
fn without_descriptors_the_administrator_is_still_answered() {
    let temp = support::temp();
    let mut command = Command::new("sh");
    command.env_clear().env("PATH", "/usr/bin:/bin");
    command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_rtmd")]);
    command.arg("--runtime-dir").arg(temp.path()).args(["--config", "/dev/null"]);
    let rtmd = Rtmd::spawn(command, temp.path());
    let mut first = Client::unix(&rtmd, "first");
    let most = first.json("status")["sessions_max"].as_u64().unwrap();
    assert!((4..64).contains(&most), "{most}");

    // Far more than there are descriptors, each wants to follow.
    let mut refused = 0;
    let mut following = Vec::new();
    for n in 0..80 {
        let mut client = Client::unix(&rtmd, &format!("client{n}"));
        client.subscribe("");
        let patience = Patience::new();
        while !client.live && !client.closed {
            patience.check("served or refused");
            client.read();
        }
        if client.live {
            following.push(client);
        } else {
            assert_eq!(client.goodbye.unwrap().0, GoodbyeReason::TooMany);
            refused += 1;
        }
    }
    assert!(refused >= 80 - most && !following.is_empty(), "{refused} of 80, {most} possible");
    // The one that was there, and one that comes now.
    first.must("route add 10.0.0.0/8 dev a");
    let mut admin = Client::unix(&rtmd, "admin");
    assert_eq!(admin.json("status")["revision"], 1);
    for client in &mut following {
        client.until("the change", |client| client.revision() == 1);
        client.verify();
    }
    // A place that gets free is taken again.
    following.truncate(1);
    let patience = Patience::new();
    while admin.json("status")["subscribers"] != 1 {
        patience.check("the others are gone");
    }
    Client::follower(&rtmd, "again").verify();
}

#[test]
fn it_runs_without_privilege() {
    if !support::root("it_runs_without_privilege") {
        return;
    }
    // The program and its directory where another user reaches them.
    let temp = support::temp();
    let mode = |path: &std::path::Path, mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, mode).unwrap();
    };
    mode(temp.path(), 0o755);
    let program = temp.path().join("rtmd");
    // By another process: a copy open for writing here could be inherited by what
    // another test starts just then, and would not run (ETXTBSY).
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_rtmd")).arg(&program).status();
    assert!(copied.unwrap().success());
    mode(&program, 0o755);
    let directory = temp.path().join("run");
    std::fs::create_dir(&directory).unwrap();
    std::os::unix::fs::chown(&directory, Some(65534), Some(65534)).unwrap();
    let mut command = Command::new(&program);
    command.env_clear().arg("--runtime-dir").arg(&directory);
    command.args(["--console", "--config", "/dev/null"]);
    std::os::unix::process::CommandExt::uid(&mut command, 65534);
    std::os::unix::process::CommandExt::gid(&mut command, 65534);
    let mut rtmd = Rtmd::spawn(command, &directory);
    // Its own user may do all; the console works, though the pipe is root's.
    let mut own = Client::over(as_user(&rtmd, 65534, vec![]), "own");
    own.must("route add 10.0.0.0/8 dev a");
    rtmd.write("route add 11.0.0.0/8 dev a\n");
    rtmd.wait_out("done, revision 2");
    let mut other = Client::over(as_user(&rtmd, 65533, vec![]), "other");
    assert_eq!(other.ask("route add 12.0.0.0/8 dev a").code, 2);
    Client::unix(&rtmd, "root").must("route add 12.0.0.0/8 dev a");
    rtmd.signal(libc::SIGTERM);
    assert_eq!(rtmd.finish().code(), Some(0));
}

/// Anybody may wait for a route or for all clients; what waits costs the
/// daemon something, so it is bounded.
#[test]
fn only_so_many_wait_at_a_time() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    // It follows, and answers no mark.
    let silent = Client::follower(&rtmd, "silent");
    for (line, most) in
        [("sync --timeout 600", 64), ("wait route exact 10.0.0.0/8 --timeout 600", 256)]
    {
        let mut waiting: Vec<Client> = Vec::new();
        for n in 0..most {
            let mut client = Client::unix(&rtmd, &format!("waits{n}"));
            client.send(line);
            client.until("welcome", |client| client.welcome.is_some());
            waiting.push(client);
        }
        // All that came before this is taken up.
        admin.must("status");
        admin.must("status");
        let refused = admin.ask(line);
        assert_eq!(refused.code, 2, "{line}: {}", refused.text);
        assert!(refused.text.contains(&format!("{most} ")), "{line}: {}", refused.text);
        // Who goes makes room.
        waiting.pop();
        let patience = Patience::new();
        while admin.json("status")["sessions"] != waiting.len() + 2 {
            patience.check("it is gone");
        }
        let id = admin.send(line);
        admin.cancel(id);
        assert_eq!(admin.answer(id).text, "cancelled");
        drop(waiting);
    }
    drop(silent);
    let patience = Patience::new();
    while admin.json("status")["subscribers"] != 0 {
        patience.check("it is gone");
    }
    admin.must("sync");
}

/// A digest over everything needs the tables to stand still; however many ask
/// for one after another, changes go on in between.
#[test]
fn those_who_ask_for_digests_do_not_keep_others_from_changing() {
    const ASKED: usize = 100;
    let rtmd = Rtmd::start(&[]);
    let mut readers: Vec<Client> =
        (0..3).map(|n| Client::unix(&rtmd, &format!("reader{n}"))).collect();
    let mut admin = Client::unix(&rtmd, "admin");
    let lines: Vec<String> = support::many_routes(50_000).collect();
    admin.load(LoadFlags(0), "", lines.iter().map(String::as_str));
    for reader in &mut readers {
        for _ in 0..ASKED {
            reader.send("digest --resolved");
        }
    }
    let before = admin.json("stat")["requests"].as_u64().unwrap();
    for n in 0..5 {
        admin.must(&format!("route replace 192.0.2.{n}/32 dev a"));
    }
    let meanwhile = admin.json("stat")["requests"].as_u64().unwrap() - before;
    assert!(meanwhile < 60, "{meanwhile} requests came before five changes");
}
