//! Exactly one daemon runs in a directory: of many that start at once, after
//! kills, one wins each time, and the others say who runs there.

use rtm_e2e::{Daemon, Process, QueueName};

const ROUNDS: usize = 10;
const AT_ONCE: usize = 6;

#[test]
fn of_many_that_start_at_once_one_runs() {
    let directory = tempfile::Builder::new().prefix("rtm-e2e-").tempdir().unwrap();
    let path = directory.path().to_str().unwrap().to_owned();
    let _queue = QueueName(directory.path().to_owned());
    let mut refused = 0;
    for round in 0..ROUNDS {
        let mut started: Vec<Process> = (0..AT_ONCE)
            .map(|_| {
                let config = ["--config", "/dev/null", "--no-console"];
                Process::start("rtmd", [&["--runtime-dir", &path][..], &config].concat())
            })
            .collect();
        // All but one end by themselves.
        let start = std::time::Instant::now();
        while started.iter_mut().filter_map(|process| (!process.ended()).then_some(())).count() > 1
        {
            assert!(start.elapsed() < rtm_e2e::process::PATIENCE, "more than one runs");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let at = started.iter_mut().position(|process| !process.ended());
        let winner = started.swap_remove(at.expect("one runs"));
        winner.wait_stderr("ready");
        for loser in started {
            let output = loser.finish();
            assert_eq!(output.code, Some(2), "{}", output.err);
            assert!(output.err.contains("rtmd runs there already"), "{}", output.err);
            assert_eq!(output.err.lines().count(), 1, "{}", output.err);
            refused += 1;
        }
        // It is the one that answers, and it had nobody else's table.
        let status = Process::start("rtm", ["--runtime-dir", &path, "-j", "status"]).finish();
        let status: serde_json::Value = serde_json::from_str(&status.out).unwrap();
        assert_eq!(status["pid"], winner.pid(), "round {round}");
        let change = ["--runtime-dir", &path, "route", "add", "10/8", "dev", "e"];
        assert_eq!(Process::start("rtm", change).finish().code, Some(0));
        winner.signal(libc::SIGKILL);
        drop(winner);
    }
    println!("{ROUNDS} times {AT_ONCE} daemons at once: {ROUNDS} ran, {refused} were refused");
    // Another directory is another daemon.
    let (one, other) = (Daemon::start(&[]), Daemon::start(&[]));
    one.rtm(&["route", "add", "10/8", "dev", "e"]);
    assert_eq!(other.json(&["digest"])["revision"], 0);
}
