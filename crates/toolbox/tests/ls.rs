//! `ipc ls`, `watch`, `wait`, `rm` end to end, against objects of every kind that
//! a C program made and holds; lsof, lsfd, ss and /proc as referees; processes
//! in the thousands, and such that come and go meanwhile.
mod support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{CProgram, Key, Name, Running, as_nobody, fails, is_root, not_run, ok, run};

/// The C program with its objects.
struct Objects {
    child: Child,
    stdin: Option<ChildStdin>,
    /// What it printed: ids and pids by name.
    said: HashMap<String, i64>,
    name: Name,
    key: Key,
    directory: tempfile::TempDir,
    _program: CProgram,
}

impl Objects {
    fn make(what: &str) -> Self {
        let program = CProgram::compile("objects");
        let (name, key) = (Name::new(what), Key::new());
        let directory = tempfile::tempdir().unwrap();
        let mut child = program
            .command(&[&name.0, &key.0.to_string(), directory.path().to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = HashMap::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if line == "ready" {
                break;
            }
            let (word, number) = line.split_once(' ').unwrap();
            said.insert(word.to_owned(), number.parse().unwrap());
        }
        let stdin = child.stdin.take();
        let objects = Self { child, stdin, said, name, key, directory, _program: program };
        // Its children are on their way into their calls.
        for (kind, name) in [
            ("mq", objects.name.0.clone()),
            ("sem", objects.name.0.clone()),
            ("sysv-mq", objects.said["sysv-mq"].to_string()),
            ("sysv-sem", objects.said["sysv-sem"].to_string()),
            ("pipe", objects.said["pipe"].to_string()),
            ("unix", objects.said["listener"].to_string()),
        ] {
            ok(&format!("wait {kind}:{name} waited --timeout 60s"));
        }
        objects
    }

    fn pid(&self) -> i64 {
        self.child.id().into()
    }

    /// Ends it as it does by itself.
    fn end(mut self) {
        drop(self.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

fn list(words: &str) -> Vec<Value> {
    let text = ok(&format!("ls -J {words}"));
    let value: Value = serde_json::from_str(&text).unwrap();
    value["ipc"].as_array().unwrap().clone()
}

const ALL: &str = "-o TYPE,NAME,KEY,ID,OWNER,UID,PERMS,SIZE,DEPTH,AGE,MAXMSG,MSGSIZE,NATTCH,HOLDERS,\
                   READERS,WRITERS,WAITERS,PEER,STATE,ORPHAN,WHY";

fn is_number(value: &Value, text: &str) -> bool {
    value.as_u64().is_some_and(|number| text.parse() == Ok(number))
}

fn pids(value: &Value) -> Vec<i64> {
    let mut pids: Vec<i64> =
        value.as_array().into_iter().flatten().map(|one| one["pid"].as_i64().unwrap()).collect();
    pids.sort_unstable();
    pids
}

#[test]
fn objects_of_every_kind_with_who_holds_and_who_waits() {
    let objects = Objects::make("ls-all");
    let all = list(ALL);
    let find = |kind: &str, name: &str| -> &Value {
        all.iter()
            .find(|o| o["type"] == kind && (o["name"] == name || is_number(&o["id"], name)))
            .unwrap_or_else(|| panic!("{kind} {name} is missing"))
    };
    let name = objects.name.0.clone();
    let name = name.as_str();
    let us = objects.pid();
    let ids = objects.said.clone();
    let said = |word: &str| ids[word];
    let uid = rustix::process::getuid().as_raw();
    let check = |object: &Value, size: Option<i64>, depth: Option<i64>, waits: Option<&str>| {
        assert!(pids(&object["holders"]).contains(&us), "{object}");
        assert_eq!(object["orphan"], false, "{object}");
        assert_eq!(object["uid"], uid, "{object}");
        if let Some(size) = size {
            assert_eq!(object["size"], size, "{object}");
        }
        if let Some(depth) = depth {
            assert_eq!(object["depth"], depth, "{object}");
        }
        if let Some(waits) = waits {
            let child = said(&format!("waits-{waits}"));
            assert!(pids(&object["waiters"]).contains(&child), "{object}");
        }
    };
    let queue = find("mq", name);
    check(queue, Some(0), Some(0), Some("mq"));
    assert_eq!((&queue["maxmsg"], &queue["msgsize"]), (&Value::from(4), &Value::from(16)));
    assert_eq!(queue["perms"], "rw-r-----");
    check(find("shm", name), Some(12288), None, None);
    check(find("sem", name), Some(32), Some(0), Some("sem"));
    let segment = find("sysv-shm", &said("sysv-shm").to_string());
    // Attached by it, and by the children that it forked.
    check(segment, Some(5000), None, None);
    assert!(segment["nattch"].as_i64().unwrap() >= 1);
    assert_eq!(segment["key"], format!("0x{:08x}", objects.key.0));
    // System V keeps no holders: who used it last, and who waits; never nobody.
    for kind in ["sysv-mq", "sysv-sem"] {
        let object = find(kind, &said(kind).to_string());
        let child = said(&format!("waits-{kind}"));
        assert_eq!(pids(&object["waiters"]), [child], "{object}");
        assert_eq!(object["orphan"], false, "{object}");
    }
    let table = ok("ls --type sysv-mq,sysv-sem --noheadings -o TYPE,NAME,HOLDERS");
    for kind in ["sysv-mq", "sysv-sem"] {
        let begins = format!("{kind:<8} {}", said(kind));
        let line = table.lines().find(|line| line.starts_with(&begins));
        assert!(line.is_some_and(|line| line.contains("last: ")), "{table}");
    }
    // Sockets with their peers.
    let listener = find("unix", &said("listener").to_string());
    check(listener, None, Some(0), Some("unix"));
    assert_eq!(listener["state"], "stream listening");
    assert_eq!(listener["name"], format!("{}/socket", objects.directory.path().display()));
    let client = find("unix", &said("client").to_string());
    check(client, None, None, None);
    let peer = client["peer"].as_str().unwrap();
    assert!(peer.starts_with(&format!("{} ", said("accepted"))), "{peer}");
    assert!(peer.contains(&format!("{us}/objects")), "{peer}");
    // What is known only by who holds it.
    let fifo = find("fifo", &format!("{}/fifo", objects.directory.path().display()));
    check(fifo, Some(65536), Some(5), None);
    let pipe = find("pipe", &said("pipe").to_string());
    check(pipe, Some(65536), Some(0), Some("pipe"));
    assert!(!pids(&pipe["writers"]).contains(&said("waits-pipe")), "it has closed that end");
    assert!(pids(&pipe["readers"]).contains(&said("waits-pipe")));
    check(find("memfd", &said("memfd").to_string()), Some(4096), None, None);
    assert_eq!(find("memfd", &said("memfd").to_string())["name"], "objects-memfd");
    let event = all
        .iter()
        .find(|o| o["type"] == "eventfd" && pids(&o["holders"]).contains(&us))
        .expect("its eventfd");
    assert_eq!(event["depth"], 7);
    objects.end();
    let text = ok(&format!("ls -N {name}"));
    assert_eq!(text.lines().count(), 1, "nothing of it is left: {text}");
}

/// lsof, lsfd and ss see the same holders.
#[test]
fn the_systems_own_tools_agree() {
    let objects = Objects::make("ls-referees");
    let pipe = objects.said["pipe"].to_string();
    let mine = list(&format!("{ALL} --type pipe,unix"));
    let find = |kind: &str, id: &str| {
        mine.iter().find(|o| o["type"] == kind && is_number(&o["id"], id)).unwrap()
    };
    let tool = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let family: Vec<i64> = objects
        .said
        .iter()
        .filter(|(word, _)| word.starts_with("waits-"))
        .map(|(_, pid)| *pid)
        .chain([objects.pid()])
        .collect();
    let list_of_pids = family.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
    // lsof -F: p PID, then for each descriptor f…, i INODE.
    let lsof = tool("lsof", &["-p", &list_of_pids, "-F", "pfi"]);
    let mut by_lsof = Vec::new();
    let mut pid = 0;
    for line in lsof.lines() {
        match line.split_at(1) {
            ("p", number) => pid = number.parse().unwrap(),
            ("i", inode) if inode == pipe => by_lsof.push(pid),
            _ => {}
        }
    }
    by_lsof.sort_unstable();
    by_lsof.dedup();
    assert_eq!(pids(&find("pipe", &pipe)["holders"]), by_lsof);
    let lsfd = tool("lsfd", &["-n", "-r", "-o", "PID,INODE", "-p", &list_of_pids]);
    let mut by_lsfd: Vec<i64> = lsfd
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(_, inode)| *inode == pipe)
        .map(|(pid, _)| pid.parse().unwrap())
        .collect();
    by_lsfd.sort_unstable();
    by_lsfd.dedup();
    assert_eq!(pids(&find("pipe", &pipe)["holders"]), by_lsfd);
    // ss: local inode, then the peer's.
    let ss = tool("ss", &["-xaHp"]);
    let (client, accepted) =
        (objects.said["client"].to_string(), objects.said["accepted"].to_string());
    let line = ss
        .lines()
        .find(|line| line.split_ascii_whitespace().any(|word| word == client))
        .expect("ss lists it");
    assert!(line.split_ascii_whitespace().any(|word| word == accepted), "{line}");
    let peer = find("unix", &client)["peer"].as_str().unwrap().to_owned();
    assert!(peer.starts_with(&format!("{accepted} ")), "{peer}");
    // The kernel's own tables for System V.
    let kernel = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
    assert_eq!(list("-m").len(), kernel.lines().count() - 1);
    // And lsipc's ids.
    let lsipc = tool("lsipc", &["-m", "-r", "--noheadings", "-o", "ID,SIZE", "-b"]);
    let line = format!("{} 5000", objects.said["sysv-shm"]);
    assert!(lsipc.lines().any(|l| l == line), "{lsipc}");
    let ours = ok("ls -m -r --noheadings -o ID,SIZE -b");
    assert!(ours.lines().any(|l| l == line), "{ours}");
}

#[test]
fn letters_filters_and_columns() {
    let (q, key) = (Name::new("ls-letters"), Key::new());
    ok(&format!("mq create {q} --msgsize 1K"));
    ok(&format!("shm create {q} --size 100"));
    ok(&format!("sem create {q}"));
    for kind in ["mq", "sem"] {
        ok(&format!("{kind} create --sysv --key {key}"));
    }
    ok(&format!("shm create --sysv --key {key} --size 10"));
    for (letters, kinds) in [
        ("-Q", &["mq"][..]),
        ("-M", &["shm"]),
        ("-S", &["sem"]),
        ("-q", &["sysv-mq"]),
        ("-m", &["sysv-shm"]),
        ("-s", &["sysv-sem"]),
        ("-QM", &["mq", "shm"]),
        ("--type unix,pipe", &["unix", "pipe"]),
    ] {
        let found = list(letters);
        assert!(found.iter().all(|o| kinds.contains(&o["type"].as_str().unwrap())), "{letters}");
        assert!(letters.starts_with("--") || !found.is_empty(), "{letters}");
    }
    let found = list(&format!("-N {q}"));
    assert_eq!(found.len(), 3, "{found:?}");
    let raw = ok(&format!("ls -M -N {q} -r -b --noheadings -o NAME,SIZE"));
    assert_eq!(raw, format!("{q} 100\n"));
    assert!(ok("ls -g").contains("MSGMNI"));
    fails("ls -o NONSENSE", 1, &["no such column"]);
    assert_eq!(run("ls --type nonsense").code, 1);
    assert_eq!(run("ls --user nobody-at-all --noheadings").out, "");
}

#[test]
fn orphans_go_and_what_is_held_stays() {
    let alone = std::env::var_os("IPC_LS_ALONE").is_some();
    if !alone {
        if !is_root() {
            return not_run("orphans_go_and_what_is_held_stays", "unshare needs root");
        }
        // Everybody's orphans are at stake: in an IPC namespace and a /dev/shm
        // of its own.
        let output = Command::new("unshare")
            .args(["--ipc", "--mount", "sh", "-c"])
            .args(["mount -t tmpfs none /dev/shm && mkdir -p /tmp && exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "orphans_go_and_what_is_held_stays", "--nocapture"])
            .env("IPC_LS_ALONE", "1")
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
        return;
    }
    let objects = Objects::make("rm-held");
    let (left, key) = (Name::new("rm-left"), Key::new());
    for kind in ["mq", "shm", "sem"] {
        ok(&format!("{kind} create {left}{}", if kind == "shm" { " --size 4096" } else { "" }));
    }
    ok(&format!("shm create --sysv --key {key} --size 10"));
    ok(&format!("mq create --sysv --key {}", key.0 + 1));
    let would = run("rm --orphans --dry-run");
    assert_eq!(would.code, 0, "{would:?}");
    let mut lines: Vec<&str> = would.out.lines().collect();
    lines.sort_unstable();
    let wanted = ["mq", "sem", "shm"].map(|kind| format!("would remove {kind}:{left}"));
    assert_eq!(lines, wanted, "{}", would.err);
    assert!(would.err.contains("--presumed removes it"), "{}", would.err);
    assert!(would.err.contains("nobody has used it yet"), "{}", would.err);
    assert_eq!(list(&format!("-N {left}")).len(), 3, "a dry run removes nothing");
    let done = run("rm --orphans --presumed");
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.out.matches("removed ").count(), 4, "{}", done.out);
    assert!(done.out.contains("removed sysv-shm:"), "{}", done.out);
    assert!(list(&format!("-N {left}")).is_empty());
    // Everything of the living program is still there.
    assert_eq!(list(&format!("-QMS -N {}", objects.name)).len(), 3);
    for kind in ["sysv-mq", "sysv-shm", "sysv-sem"] {
        assert_eq!(list(&format!("--type {kind} -N {}", objects.said[kind])).len(), 1, "{kind}");
    }
    let shm = format!("shm:{}", objects.name);
    fails(&format!("rm {shm}"), 2, &["held by", "objects", "--force"]);
    fails(&format!("rm sysv-sem:{}", objects.said["sysv-sem"]), 2, &["waits for it"]);
    assert_eq!(ok(&format!("rm {shm} --force --dry-run")), format!("would remove {shm}\n"));
    ok(&format!("rm {shm} --force"));
    assert!(list(&format!("-M -N {}", objects.name)).is_empty());
    ok(&format!("rm sysv-mq:0x{:08x}", key.0 + 1));
    fails("rm mq:/none", 2, &["mq:/none", "there is none"]);
    assert_eq!(run("rm nonsense:x").code, 1);
    fails(&format!("rm pipe:{}", objects.said["pipe"]), 1, &["no name to remove"]);
    objects.end();
}

/// Held, and by somebody who can't be seen: asked of the kernel, it still isn't
/// taken for an orphan.
#[test]
fn a_holder_outside_our_sight_still_counts() {
    if !is_root() {
        return not_run("a_holder_outside_our_sight_still_counts", "unshare needs root");
    }
    let objects = Objects::make("rm-unseen");
    let other = Name::new("rm-unseen-orphan");
    ok(&format!("shm create {other} --size 10"));
    // In a pid namespace of its own, with its own /proc: none of the holders is
    // to be seen there, but /dev/shm is the same.
    let inside = |line: &str| {
        let script = format!("mount -t proc none /proc && exec \"$0\" {line}");
        let output = Command::new("unshare")
            .args(["--pid", "--fork", "--mount", "sh", "-c", &script])
            .arg(env!("CARGO_BIN_EXE_ipc"))
            .output()
            .unwrap();
        support::seen(&output)
    };
    let table = inside(&format!("ls -M -N {} -r --noheadings -o HOLDERS,ORPHAN,WHY", objects.name));
    assert_eq!(table.out, "? no held by processes that can't be seen\n", "{}", table.err);
    let table = inside(&format!("ls -M -N {other} -r --noheadings -o ORPHAN"));
    assert_eq!(table.out, "yes\n", "the kernel knows that nobody has it");
    let would = inside("rm --orphans --dry-run");
    assert!(!would.out.contains(&objects.name.0), "{}", would.out);
    assert!(would.out.contains(&format!("would remove shm:{other}\n")), "{would:?}");
    objects.end();
}

#[test]
fn another_user_is_told_what_he_may_not_see() {
    let objects = Objects::make("ls-nobody");
    let line = format!("ls -J {ALL} -N {}", objects.name);
    let Some(run) = as_nobody("another_user_is_told_what_he_may_not_see", &line) else { return };
    assert_eq!(run.code, 0, "{run:?}");
    let value: Value = serde_json::from_str(&run.out).unwrap();
    for object in value["ipc"].as_array().unwrap() {
        assert_eq!(object["orphan"], Value::Null, "{object}");
        let why = object["why"].as_str().unwrap();
        assert!(why.starts_with("needs CAP_SYS_PTRACE for ") && why.contains(" process"), "{why}");
        assert_eq!(object["holders"], Value::Null, "not nobody, but not known: {object}");
    }
    assert!(value["ipc"].as_array().unwrap().len() >= 2, "{value}");
    // System V: everybody may see the kernel's table.
    let line = format!("ls -J {ALL} --type sysv-shm,sysv-mq -N {}", objects.said["sysv-shm"]);
    let run = as_nobody("another_user_is_told_what_he_may_not_see", &line).unwrap();
    assert!(run.out.contains("attached "), "{}", run.out);
    objects.end();
}

#[test]
fn a_thousand_processes_and_such_that_come_and_go() {
    let name = Name::new("ls-thousand");
    ok(&format!("shm create {name} --size 4096"));
    let path = format!("/dev/shm{name}");
    // 1,000 that hold it, in one process group, ended by the end of their input.
    let script = format!(
        "exec 3<{path}; n=0; while [ $n -lt 1000 ]; do sleep 1000 & n=$((n+1)); done; \
         echo ready; read end; kill -KILL 0"
    );
    use std::os::unix::process::CommandExt;
    let mut many = Command::new("sh")
        .args(["-c", &script])
        .process_group(0) // which it ends, with itself
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    many.stdout.take().unwrap().read_exact(&mut ready).unwrap();
    // And others that begin and end all the time.
    let mut churn = Command::new("sh")
        .args(["-c", &format!("while :; do (exec 4<{path}; true) & wait; done")])
        .spawn()
        .unwrap();
    let mut most = 0;
    for _ in 0..5 {
        let found = list(&format!("{ALL} -M -N {name}"));
        let holders = pids(&found[0]["holders"]);
        assert!(holders.len() >= 1000, "{}", holders.len());
        most = most.max(holders.len());
        assert_eq!(found[0]["orphan"], false);
    }
    let _ = churn.kill();
    let _ = churn.wait();
    drop(many.stdin.take());
    let _ = many.wait();
    let end = Instant::now() + Duration::from_secs(60);
    while list(&format!("{ALL} -M -N {name}"))[0]["orphan"] != true {
        assert!(Instant::now() < end, "they are gone, and it is an orphan");
    }
    println!("up to {most} holders seen");
}

#[test]
fn waiting_for_a_state() {
    let q = Name::new("wait");
    fails(&format!("wait mq:{q} exists --timeout 30ms"), 4, &["not exists within"]);
    ok(&format!("wait mq:{q} gone"));
    let waiting = Running::start(&format!("wait mq:{q} exists --timeout 60s"));
    ok(&format!("mq create {q} --msgsize 1K"));
    assert_eq!(waiting.end().code, 0);
    ok(&format!("wait mq:{q} empty"));
    let waiting = Running::start(&format!("wait mq:{q} nonempty --timeout 60s"));
    ok(&format!("mq send {q} x"));
    assert_eq!(waiting.end().code, 0);
    let receiver = Running::start(&format!("mq recv {q} --count 2"));
    ok(&format!("wait mq:{q} held --timeout 60s"));
    ok(&format!("wait mq:{q} waited --timeout 60s"));
    ok(&format!("mq send {q} x"));
    assert_eq!(receiver.end().out, "xx");
    ok(&format!("wait mq:{q} unheld --timeout 60s"));
    ok(&format!("mq rm {q}"));
    assert_eq!(run("wait nonsense exists").code, 1);
    assert_eq!(run(&format!("wait mq:{q} frobbed")).code, 1);
}

#[test]
fn watching_what_comes_changes_and_goes() {
    let q = Name::new("watch");
    let there = Name(format!("{q}-there"));
    ok(&format!("mq create {there} --msgsize 1K"));
    let mut watch = Running::start(&format!(
        "watch --type mq -N {q} --interval 10ms --initial --count 4 --timeout 60s"
    ));
    let mut out = BufReader::new(watch.0.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        line
    };
    assert!(next().starts_with(&format!("= mq {there}: owner ")));
    ok(&format!("mq create {q} --msgsize 1K"));
    assert!(next().starts_with(&format!("+ mq {q}: owner ")));
    ok(&format!("mq send {q} x"));
    let changed = next();
    assert!(changed.starts_with(&format!("~ mq {q}: ")), "{changed}");
    assert!(changed.contains("depth 0 -> 1"), "{changed}");
    ok(&format!("mq rm {q}"));
    assert!(next().starts_with(&format!("- mq {q}")));
    assert_eq!(watch.0.wait().unwrap().code(), Some(0));
    let first = ok(&format!("watch -J --type mq -N {q} --initial --count 1"));
    let value: Value = serde_json::from_str(&first).unwrap();
    let wanted = (&Value::from("there"), &Value::from(there.0.as_str()));
    assert_eq!((&value["event"], &value["name"]), wanted);
    let mut watch = Running::start(&format!("watch --type mq -N {q} --initial"));
    let mut line = String::new();
    BufReader::new(watch.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    watch.signal(ipc::signal::Signal::INT);
    assert_eq!(watch.end().code, 130);
}
