//! `ipc shm` and `ipc map` end to end.
mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use support::{CProgram, Key, Name, Running, as_nobody, command, fails, ok, run, seen, with_input};

#[test]
fn the_specifications_segment() {
    let s = Name::new("spec");
    ok(&format!("shm create {s} --size 0 --excl"));
    let metadata = std::fs::metadata(format!("/dev/shm{s}")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((metadata.len(), metadata.mode() & 0o777), (0, 0o600));
    assert_eq!(ok(&format!("shm read {s}")), "", "an empty one has nothing to read");
    let write = run(&format!("shm write {s} Hello! -v"));
    assert_eq!((write.code, write.err.as_str()), (0, "Copying 6 bytes\n"));
    assert_eq!(std::fs::read(format!("/dev/shm{s}")).unwrap(), b"Hello!");
    let read = run(&format!("shm read {s} -v"));
    assert_eq!((read.out.as_str(), read.err.as_str()), ("Hello!", "... Done\n"));
    ok(&format!("shm rm {s}"));
    fails(&format!("shm read {s}"), 2, &["shm read", "no such shared memory", "create"]);
}

#[test]
fn a_mode_is_exact_whatever_the_umask() {
    let s = Name::new("mode");
    let ipc = env!("CARGO_BIN_EXE_ipc");
    let made = Command::new("sh")
        .args(["-c", &format!("umask 077; {ipc} shm create {s} --mode 0666 --size 1K")])
        .status();
    assert!(made.unwrap().success());
    assert!(ok(&format!("shm stat {s}")).contains("perms        rw-rw-rw-"));
    ok(&format!("shm chmod {s} 0640"));
    let row = ok("shm ls -r --noheadings -o NAME,PERMS,SIZE");
    assert!(row.contains(&format!("{s} rw-r----- 1K\n")), "{row}");
    fails(&format!("shm chmod {s} 888"), 1, &["888: a mode is octal"]);
}

#[test]
fn content_offsets_and_dump() {
    let s = Name::new("dump");
    ok(&format!("shm create {s} --size 40"));
    assert_eq!(with_input(&format!("shm write {s} - --offset 10"), b"\x00\xffabc").code, 0);
    assert_eq!(ok(&format!("shm read {s} --offset 12 --count 3")), "abc");
    let dump = ok(&format!("shm dump {s}"));
    let referee = Command::new("sh")
        .args(["-c", &format!("hexdump -C -v /dev/shm{s} || od -A x -t x1z -v /dev/shm{s}")])
        .output()
        .unwrap();
    let referee = seen(&referee).out;
    if referee.contains('|') {
        assert_eq!(dump, referee);
    }
    assert!(
        dump.starts_with(
            "00000000  00 00 00 00 00 00 00 00  00 00 00 ff 61 62 63 00  |............abc.|\n"
        ),
        "{dump}"
    );
    assert!(dump.ends_with("00000028\n"), "{dump}");
    fails(&format!("shm read {s} --offset 41"), 1, &["it has 40"]);
    fails(&format!("shm read {s} --offset 39 --count 2"), 1, &["bytes 39 to 41 wanted, it has 40"]);
    // A write beyond the end makes room; resize makes less.
    ok(&format!("shm write {s} tail --offset 100"));
    assert!(ok(&format!("shm stat {s}")).contains("size         104\n"));
    ok(&format!("shm resize {s} 12"));
    let output = command(&format!("shm read {s}")).output().unwrap();
    assert_eq!(output.stdout, b"\0\0\0\0\0\0\0\0\0\0\0\xff");
    fails(&format!("shm resize {s} 12Q"), 1, &["the unit of a size"]);
    fails(&format!("shm resize {s} 16777215T"), 2, &["more than a file can have"]);
}

#[test]
fn every_error_of_posix_shared_memory() {
    let s = Name::new("errors");
    for verb in ["read", "dump", "stat", "rm"] {
        fails(&format!("shm {verb} {s}"), 2, &["no such shared memory"]);
    }
    ok(&format!("shm create {s} --size 10"));
    fails(&format!("shm create {s} --excl"), 2, &["exists already"]);
    ok(&format!("shm create {s} --size 99"));
    assert!(ok(&format!("shm stat {s}")).contains("size         10\n"), "taken as it is");
    for bad in ["x", "/", "/a/b"] {
        fails(&format!("shm create {bad}"), 1, &["no name for shared memory"]);
    }
    for verb in [format!("shm write {s} x"), format!("shm read {s}"), format!("shm rm {s}")] {
        let Some(run) = as_nobody("every_error_of_posix_shared_memory", &verb) else { return };
        assert_eq!(run.code, 2, "{verb} {run:?}");
        assert!(run.err.contains("permission denied"), "{}", run.err);
    }
}

#[test]
fn a_full_file_system_is_an_error_and_kills_nobody() {
    if !support::is_root() {
        return support::not_run(
            "a_full_file_system_is_an_error_and_kills_nobody",
            "mount needs root",
        );
    }
    let ipc = env!("CARGO_BIN_EXE_ipc");
    let script = format!(
        "mount -t tmpfs -o size=64K none /dev/shm && {ipc} shm create /full --size 1M && head -c 512K /dev/zero | {ipc} shm write /full -"
    );
    let run =
        seen(&Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap());
    assert_eq!(run.code, 2, "{run:?}");
    assert!(
        run.err.contains("/full: 524288 bytes wanted") && run.err.contains("free in /dev/shm"),
        "{}",
        run.err
    );
}

#[test]
fn a_map_outlives_the_name_and_holders_are_shown() {
    let s = Name::new("holder");
    ok(&format!("shm create {s} --size 4096"));
    let object = ipc::shm::Object::open(&s.0, ipc::shm::Access::ReadWrite).unwrap();
    let map = ipc::map::MapMut::of(&object, 4096).unwrap();
    drop(object);
    let row = ok("shm ls -r --noheadings -o TYPE,NAME,HOLDERS,WRITERS,ORPHAN");
    let own = std::process::id();
    assert!(row.contains(&format!("posix {s} {own} {own} no\n")), "{row}");
    ok(&format!("shm rm {s}"));
    map.bytes_in(0, b"alive");
    assert_eq!(map.to_vec(0, 5), b"alive");
}

#[test]
fn watch_shows_changes() {
    let s = Name::new("watch");
    ok(&format!("shm create {s} --size 32"));
    fails(&format!("shm watch {s} --interval 1ms --timeout 20ms"), 4, &["no change"]);
    let mut watching = Running::from(
        command(&format!("shm watch {s} --interval 1ms --count 1")).stdin(Stdio::null()),
    );
    watching.until_in(&[230, 35]); // clock_nanosleep, nanosleep
    ok(&format!("shm write {s} X --offset 20"));
    let mut out = String::new();
    BufReader::new(watching.0.stdout.as_mut().unwrap()).read_line(&mut out).unwrap();
    assert_eq!(
        out,
        "00000010  00 00 00 00 58 00 00 00  00 00 00 00 00 00 00 00  |....X...........|\n"
    );
}

#[test]
fn posix_shared_memory_and_c_programs() {
    let c = CProgram::compile("interop");
    let s = Name::new("c");
    c.ok(&["shm_create", &s.0, "4096"]);
    ok(&format!("shm write {s} 'from ipc' --offset 100"));
    assert_eq!(c.ok(&["shm_read", &s.0, "100"]), "from ipc\n");
    c.ok(&["shm_write", &s.0, "200", "from C"]);
    assert_eq!(ok(&format!("shm read {s} --offset 200 --count 6")), "from C");
}

#[test]
fn system_v_segments() {
    let c = CProgram::compile("interop");
    let key = Key::new();
    let k = key.to_string();
    let id = c.ok(&["shmat_create", &k, "4096"]);
    let id = id.trim();
    fails(&format!("shm create --sysv --key {key} --size 10 --excl"), 2, &["exists already"]);
    fails(
        &format!("shm create --sysv --key {key} --size 8192"),
        2,
        &["exists already and is smaller than 8192"],
    );
    assert_eq!(ok(&format!("shm create --sysv --key {key} --size 10")).trim(), id);
    ok(&format!("shm write --sysv {id} 'from ipc' --offset 8"));
    assert_eq!(c.ok(&["shmat_read", &k, "8"]), "from ipc\n");
    c.ok(&["shmat_write", &k, "64", "from C"]);
    assert_eq!(ok(&format!("shm read --sysv --key {key} --offset 64 --count 6")), "from C");
    fails(
        &format!("shm write --sysv {id} xyz --offset 4094"),
        1,
        &["bytes 4094 to 4097 wanted, it has 4096"],
    );
    fails(&format!("shm resize --sysv {id} 1"), 1, &["has its size for ever"]);

    // Every field, against ipcs.
    ok(&format!("shm chmod --sysv {id} 0644"));
    let stat = ok(&format!("shm stat --sysv {id}"));
    for field in [
        "size           4096",
        "perms          rw-r--r--",
        "attached       0",
        &format!("key            0x{:08x}", key.0),
    ] {
        assert!(stat.contains(field), "{field} in {stat}");
    }
    let referee = seen(&Command::new("ipcs").args(["-m", "-i", id]).output().unwrap()).out;
    for part in ["mode=0644", "access_perms=0644", "bytes=4096", "nattch=0"] {
        assert!(referee.contains(part), "{part} in {referee}");
    }
    let number = |name: &str| -> String {
        let line = stat.lines().find(|l| l.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    assert!(referee.contains(&format!("cpid={}", number("creator-pid"))), "{stat} {referee}");
    assert!(referee.contains(&format!("lpid={}", number("last-pid"))), "{stat} {referee}");

    // Removed while attached: said so, and it lives on for who has it.
    ok(&format!("shm write --sysv {id} Q"));
    let mut holding = c.command(&["shmat_hold", &k]);
    let mut holding = holding.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(holding.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "attached");
    let lsipc = [
        "-m",
        "-r",
        "-b",
        "-o",
        "KEY,ID,PERMS,CUSER,CUID,CGROUP,CGID,UID,GID,SIZE,NATTCH,CPID,LPID",
    ];
    let theirs = seen(&Command::new("lsipc").args(lsipc).output().unwrap()).out;
    let ours = ok(&format!("shm ls --sysv {}", lsipc[1..].join(" ")));
    let row = |text: &str| text.lines().find(|l| l.contains(&format!(" {id} "))).map(str::to_owned);
    assert_eq!(row(&ours), row(&theirs), "as lsipc says");
    let row = ok("shm ls --sysv -r --noheadings -o ID,NATTCH,STATUS,SIZE -b");
    assert!(row.contains(&format!("{id} 1 - 4096\n")), "{row}");
    let rm = run(&format!("shm rm --sysv {id}"));
    assert_eq!(
        (rm.code, rm.err),
        (0, format!("segment {id}: still attached 1 times, it goes with the last detach\n"))
    );
    let row = ok("shm ls --sysv -r --noheadings -o ID,NATTCH,STATUS");
    assert!(row.contains(&format!("{id} 1 dest\n")), "{row}");
    holding.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "Q");
    assert!(holding.wait().unwrap().success());
    fails(&format!("shm stat --sysv {id}"), 2, &["no such object"]);
    fails(&format!("shm read --sysv --key {key}"), 2, &["no such object"]);
    fails(
        &format!("shm create --sysv --key {key} --size 0"),
        2,
        &["0 is not between 1 and kernel.shmmax"],
    );
    let private = ok("shm create --sysv --private --size 27");
    assert_eq!(ok(&format!("shm read --sysv {}", private.trim())), "\0".repeat(27));
    ok(&format!("shm rm --sysv {}", private.trim()));
}

#[test]
fn system_v_segments_and_another_user() {
    let key = Key::new();
    ok(&format!("shm create --sysv --key {key} --size 10 --mode 0600"));
    let line = format!("shm read --sysv --key {key}");
    let Some(run) = as_nobody("system_v_segments_and_another_user", &line) else { return };
    assert_eq!(run.code, 2);
    assert!(run.err.contains("permission denied"), "{}", run.err);
}

#[test]
fn files_are_mapped_and_written_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| ((n * 7) >> 3) as u8).collect();
    std::fs::write(&file, &content).unwrap();
    let output = command(&format!("map cat {}", file.display())).output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == content);
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    assert_eq!(ok(&format!("map cat {}", empty.display())), "");
    fails(&format!("map cat {}/missing", dir.path().display()), 2, &["missing: No such file"]);
    fails(&format!("map cat {}", dir.path().display()), 2, &["can't be mapped"]);
    let fifo = dir.path().join("fifo");
    ipc::fifo::create(&fifo, 0o600).unwrap();
    fails(&format!("map cat {}", fifo.display()), 2, &["can't be mapped"]);
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let line = format!("map cat {}", file.display());
    let Some(run) = as_nobody("files_are_mapped_and_written_out", &line) else { return };
    assert_eq!(run.code, 2);
    assert!(run.err.contains("Permission denied"), "{}", run.err);
}

#[test]
fn seals_are_shown_and_added() {
    let fd = ipc::memfd::create_full("sealed", 4096).unwrap();
    let place = format!("{}:{}", std::process::id(), fd.as_raw_fd());
    let seals = ok(&format!("map seal {place}"));
    assert!(!seals.contains("shrink"), "{seals}");
    let seals = ok(&format!("map seal {place} --add shrink,grow"));
    assert!(seals.contains("shrink,grow"), "{seals}");
    assert_eq!(rustix::fs::ftruncate(&fd, 0), Err(ipc::Errno::PERM));
    ok(&format!("map seal {place} --add future-write,seal"));
    let refused = run(&format!("map seal {place} --add write"));
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("sealed"), "{}", refused.err);
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let place = format!("{}:{}", std::process::id(), file.as_raw_fd());
    fails(&format!("map seal {place}"), 2, &["is no memory file"]);
    fails(&format!("map seal {}:999999", std::process::id()), 2, &["No such file", "/proc/"]);
    assert_eq!(run("map seal 1").code, 1);
}

#[test]
fn as_many_segments_as_the_system_allows() {
    let test = "as_many_segments_as_the_system_allows";
    let script = "echo 1 > /proc/sys/kernel/shmmni
        ipc shm create --sysv --key 7 --size 10 >/dev/null || exit 9
        ipc shm create --sysv --key 8 --size 10; echo $?
        echo 4096 > /proc/sys/kernel/shmmax
        ipc shm create --sysv --key 9 --size 4097; echo $?
        ipc shm ls --sysv --limits -r --noheadings | head -n 1";
    let Some(run) = support::in_own_ipc_namespace(test, script) else { return };
    assert_eq!(run.out, "2\n2\nSHMMNI segments 1 1 100.00%\n", "{}", run.err);
    let lines: Vec<&str> = run.err.lines().collect();
    assert_eq!(
        lines,
        [
            "ipc: shm create: segment with key 0x00000008: the system has as many as kernel.shmmni \
             (or kernel.shmall) allows, 1; rm removes one, ls --limits shows the limit and what is used",
            "ipc: shm create: segment with key 0x00000009: 4097 is not between 1 and kernel.shmmax, 4096",
        ]
    );
}
