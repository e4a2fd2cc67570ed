//! Start, stop, reload, and what is left behind.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};

use rtm_tables::wire::{GoodbyeReason, LoadFlags};
use support::{Client, Patience, Rtmd, many_routes};

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn one_daemon_runs_in_a_directory() {
    let rtmd = Rtmd::start(&[]);
    let (code, _, error) = output(
        support::command(&rtmd.directory).arg("--config").arg(rtmd.directory.join("test.toml")),
    );
    assert_eq!(code, Some(2));
    let expected = format!("rtmd runs there already (process {})", rtmd.pid());
    assert!(error.contains(&expected), "{error}");
    assert_eq!(error.lines().count(), 1);
    // The first one is as it was, and another directory is another daemon.
    Client::unix(&rtmd, "admin").must("route add 10.0.0.0/8 dev a");
    let other = Rtmd::start(&[]);
    assert_eq!(Client::unix(&other, "admin").json("status")["revision"], 0);
}

#[test]
fn names_modes_and_the_pid_are_right() {
    let rtmd = Rtmd::start(&[]);
    let mode = |name: &str| {
        rtmd.directory.join(name).symlink_metadata().unwrap().permissions().mode() & 0o7777
    };
    assert_eq!(mode("rtm.sock"), 0o666);
    assert_eq!(mode("rtmd.lock"), 0o600);
    assert_eq!(mode("rtmd.pid"), 0o644);
    let pid = std::fs::read_to_string(rtmd.directory.join("rtmd.pid")).unwrap();
    assert_eq!(pid, format!("{}\n", rtmd.pid()));
    let status = std::fs::read_to_string(format!("/proc/{}/status", rtmd.pid())).unwrap();
    assert!(status.contains("CoreDumping:\t0"));
    // Not dumpable: its /proc files are root's, whoever runs it.
    let owner = std::fs::metadata(format!("/proc/{}/environ", rtmd.pid())).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 0);
}

#[test]
fn what_a_killed_daemon_left_is_cleaned() {
    let mut rtmd = Rtmd::start(&[]);
    let temp = rtmd.take_temp();
    rtmd.signal(libc::SIGKILL);
    rtmd.finish();
    assert!(temp.path().join("rtm.sock").exists(), "a killed daemon cleans nothing");
    assert!(temp.path().join("rtmd.pid").exists());

    let mut command = support::command(temp.path());
    command.arg("--config").arg(temp.path().join("test.toml"));
    let mut next = Rtmd::spawn(command, temp.path());
    Client::unix(&next, "admin").must("route add 10.0.0.0/8 dev a");
    next.signal(libc::SIGTERM);
    assert_eq!(next.finish().code(), Some(0));
    let mut left: Vec<_> = std::fs::read_dir(temp.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["rtmd.lock", "test.toml"]);
}

#[test]
fn a_name_that_is_not_ours_is_left_alone() {
    let temp = support::temp();
    let socket = temp.path().join("rtm.sock");
    std::fs::write(&socket, "somebody's file").unwrap();
    let (code, _, error) = output(&mut support::command(temp.path()));
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("no socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "somebody's file");
    std::fs::remove_file(&socket).unwrap();
    // Somebody who listens there without the lock.
    let _listener = UnixListener::bind(&socket).unwrap();
    let (code, _, error) = output(&mut support::command(temp.path()));
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("another process listens"), "{error}");
}

#[test]
fn usage_and_configuration_end_with_1() {
    let temp = support::temp();
    let config = temp.path().join("c.toml");
    std::fs::write(&config, "[limits]\n\nsesions_max = 3\n").unwrap();
    let path = config.to_str().unwrap().to_owned();
    for (args, expected) in [
        (vec!["--fpm=localhost"], "rtmd: invalid value 'localhost'".to_owned()),
        (vec!["--state-dir", "/x"], "rtmd: --state-dir: not in this version\n".to_owned()),
        (
            vec!["--config", &path],
            format!("rtmd: configuration: {path}: line 3: limits.sesions_max: unknown field"),
        ),
        (vec!["--config", &path, "--check"], format!("rtmd: configuration: {path}: line 3")),
        (vec!["--config", "/no/such"], "rtmd: configuration: /no/such: can't be read".to_owned()),
        (
            vec!["--frobnicate"],
            "rtmd: unexpected argument '--frobnicate' found; 'rtmd --help' shows what there is\n"
                .to_owned(),
        ),
        (vec!["--lod", "x"], "rtmd: unexpected argument '--lod' found; a similar ".to_owned()),
        (vec!["--log", "loud"], "rtmd: invalid value 'loud' for '--log <LEVEL>': ".to_owned()),
        (vec!["--listen", "tcp://0.0.0.0:1"], "rtmd: invalid value 'tcp://0.0.0.0:1'".to_owned()),
    ] {
        let (code, _, error) = output(support::command(temp.path()).args(&args));
        assert_eq!(code, Some(1), "{args:?}: {error}");
        assert!(error.starts_with(&expected), "{args:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{args:?}: {error}");
        assert!(!error.contains("os error"), "{args:?}: {error}");
    }
    std::fs::write(&config, "[limits]\nsessions_max = 3\n").unwrap();
    let (code, out, _) = output(support::command(temp.path()).args(["--config", &path, "--check"]));
    assert_eq!((code, out.as_str()), (Some(0), "the configuration is right\n"));
    assert!(!temp.path().join("rtmd.lock").exists(), "--check starts nothing");
    let (code, out, _) = output(support::command(temp.path()).arg("--version"));
    assert_eq!((code, out.starts_with("rtmd ")), (Some(0), true));
    let missing = ["--config", &path, "--load", "/no/such/file"];
    let (code, _, error) = output(support::command(temp.path()).args(missing));
    assert_eq!(code, Some(2));
    assert_eq!(error, "rtmd: load: /no/such/file: No such file or directory\n");
}

#[test]
fn the_end_says_goodbye_after_everything_was_sent() {
    let mut rtmd = Rtmd::start(&[]);
    let directory = rtmd.directory.clone();
    let mut admin = Client::unix(&rtmd, "admin");
    let mut followers: Vec<Client> =
        (0..5).map(|n| Client::follower(&rtmd, &format!("follower{n}"))).collect();
    let mut deaf = Client::unix(&rtmd, "deaf");
    deaf.subscribe("");
    let lines: Vec<String> = many_routes(2000).collect();
    let loaded = admin.load(LoadFlags(0), "", lines.iter().map(String::as_str));
    assert_eq!(loaded.applied, 2000);
    rtmd.signal(libc::SIGTERM);
    for follower in &mut followers {
        follower.until_closed();
        assert_eq!(follower.goodbye.as_ref().unwrap().0, GoodbyeReason::Stopping);
        assert_eq!(follower.revision(), 2000, "it got everything before");
        follower.verify();
    }
    admin.until_closed();
    assert_eq!(admin.goodbye.unwrap().0, GoodbyeReason::Stopping);
    // Who never reads doesn't hold it up.
    assert_eq!(rtmd.finish().code(), Some(0));
    assert!(!directory.join("rtm.sock").exists() && !directory.join("rtmd.pid").exists());
}

#[test]
fn hup_and_reload_read_the_configuration_again() {
    let rtmd = Rtmd::start_with("[limits]\nsessions_max = 100\n", &[]);
    let mut admin = Client::unix(&rtmd, "admin");
    assert_eq!(admin.json("status")["sessions_max"], 100);
    rtmd.configure("[limits]\nsessions_max = 50\n");
    rtmd.signal(libc::SIGHUP);
    let patience = Patience::new();
    while admin.json("status")["sessions_max"] != 50 {
        patience.check("the new limit");
    }
    let unchanged = admin.must("reload");
    assert_eq!(unchanged.text, "nothing changed");
    rtmd.configure("[limits]\nsessions_max = 60\n[listen]\ntcp = \"tcp://127.0.0.1:1\"\n");
    let changed = admin.must("reload");
    assert_eq!(changed.text, "limits; listen.tcp needs a restart");
    // What is wrong is named, and the old one stays in force.
    rtmd.configure("[limits]\nsessions_max = 0\n");
    let wrong = admin.ask("reload");
    assert_eq!(wrong.code, 1);
    assert!(
        wrong.text.contains("line 2: limits.sessions_max: 0 is out of range"),
        "{}",
        wrong.text
    );
    rtmd.signal(libc::SIGHUP);
    rtmd.wait_err("not reloaded");
    assert_eq!(admin.json("status")["sessions_max"], 60);
}

#[test]
fn systemd_is_told() {
    let temp = support::temp();
    let path = temp.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let directory = temp.path().join("run");
    let mut command = support::command(&directory);
    command.env("NOTIFY_SOCKET", &path).arg("--config").arg("/dev/null");
    let mut rtmd = Rtmd::spawn(command, &directory);
    let next = || {
        let mut buf = [0; 512];
        let len = socket.recv(&mut buf).unwrap();
        String::from_utf8(buf[..len].to_vec()).unwrap()
    };
    assert!(next().starts_with("READY=1"));
    rtmd.signal(libc::SIGHUP);
    assert!(next().starts_with("RELOADING=1"));
    assert!(next().starts_with("READY=1"));
    rtmd.signal(libc::SIGINT);
    assert!(next().starts_with("STOPPING=1"));
    assert_eq!(rtmd.finish().code(), Some(0));
}

#[test]
fn a_file_is_loaded_while_others_are_served() {
    let temp = support::temp();
    let file = temp.path().join("routes.txt.gz");
    let text: String = many_routes(20_000).map(|line| line + "\n").collect();
    let mut encoder = Command::new("gzip")
        .arg("-c")
        .stdin(std::process::Stdio::piped())
        .stdout(std::fs::File::create(&file).unwrap())
        .spawn()
        .unwrap();
    std::io::Write::write_all(encoder.stdin.as_mut().unwrap(), text.as_bytes()).unwrap();
    drop(encoder.stdin.take());
    assert!(encoder.wait().unwrap().success());

    let rtmd = Rtmd::start(&["--load", file.to_str().unwrap()]);
    let mut admin = Client::unix(&rtmd, "admin");
    let mut follower = Client::follower(&rtmd, "follower");
    let patience = Patience::new();
    while admin.json("status")["load"]["state"] != "done" {
        patience.check("the load");
    }
    let load = &admin.json("status")["load"];
    assert_eq!((&load["applied"], &load["refused"]), (&20_000.into(), &0.into()));
    follower.until("all", |client| client.revision() == 20_000);
    assert_eq!(follower.routes(), 20_000);
    follower.verify();

    // What is wrong inside is said with its line; the daemon runs on.
    std::fs::write(&file, "route add 10/8 dev a\nroute add 10.0.0.1/8 dev a\n").unwrap();
    let rtmd = Rtmd::start(&["--load", file.to_str().unwrap()]);
    rtmd.wait_err("line 2: destination: 10.0.0.1/8: host bits are set");
    assert_eq!(Client::unix(&rtmd, "admin").json("route show --count")["count"], 1);
}

/// SIGPIPE never kills, and children that it was started with are reaped.
#[test]
fn signals_that_mean_nothing_to_it_end_nothing_and_children_are_reaped() {
    let temp = support::temp();
    let mut command = Command::new("sh");
    command.env_clear().env("PATH", "/usr/bin:/bin");
    let script = "sleep 0.1 & sleep 60 & exec \"$0\" \"$@\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_rtmd")]);
    command.arg("--runtime-dir").arg(temp.path()).args(["--config", "/dev/null"]);
    let mut rtmd = Rtmd::spawn(command, temp.path());
    let children = || {
        let path = format!("/proc/{0}/task/{0}/children", rtmd.pid());
        let text = std::fs::read_to_string(path).unwrap();
        text.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
    };
    let patience = Patience::new();
    while children().len() != 1 {
        patience.check("the first has ended and is reaped");
    }
    support::signal_pid(children()[0], libc::SIGKILL);
    while !children().is_empty() {
        patience.check("so is the one that was killed");
    }
    for signal in [libc::SIGPIPE, libc::SIGTTIN, libc::SIGTTOU, libc::SIGCONT] {
        rtmd.signal(signal);
    }
    Client::unix(&rtmd, "admin").must("route add 10.0.0.0/8 dev a");
    rtmd.signal(libc::SIGTERM);
    assert_eq!(rtmd.finish().code(), Some(0));
}
