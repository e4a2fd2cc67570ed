//! `ipc bench`: every mechanism carries messages both ways, on one core and on
//! two; a table, a plot, a picture. How fast is the benches' business.
mod support;

use support::{Running, fails, ok, run};

#[test]
fn every_mechanism_is_measured() {
    let directory = tempfile::tempdir().unwrap();
    let picture = directory.path().join("plot.svg");
    let line = format!("bench --trips 5 --messages 70 --sizes 64 -J --svg {}", picture.display());
    let bench = Running::start(&line);
    let names = format!("/ipc-bench-{}-", bench.pid());
    let ended = bench.end();
    let one_core = std::thread::available_parallelism().unwrap().get() == 1;
    let said =
        if one_core { "this process may use one core only: no figures for two\n" } else { "" };
    assert_eq!((ended.code, ended.err.as_str()), (0, said));
    let value: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let rows = value["bench"].as_array().unwrap();
    for mechanism in [
        "pipe",
        "fifo",
        "unix-stream",
        "unix-dgram",
        "unix-seqpacket",
        "tcp",
        "udp",
        "mq",
        "sysv-mq",
        "shm-sem",
        "ring",
        "eventfd",
        "signal",
    ] {
        let mine: Vec<_> = rows.iter().filter(|row| row["mechanism"] == mechanism).collect();
        assert!(!mine.is_empty(), "{mechanism}");
        for row in mine {
            let figure = |name: &str| row[name].as_f64().unwrap();
            assert!(figure("p50-us") > 0.0, "{row}");
            assert!(figure("p50-us") <= figure("p99-us"), "{row}");
            assert!(figure("p99-us") <= figure("p99.9-us"), "{row}");
            assert!(figure("msg/s") > 0.0, "{row}");
        }
    }
    let text = std::fs::read_to_string(&picture).unwrap();
    assert!(text.starts_with("<svg ") && text.contains("unix-seqpacket 64 B"));
    let plot = ok("bench --only pipe --trips 5 --messages 70 --sizes 4096");
    assert!(plot.contains("pipe 4096 B, same core  #"), "{plot}");
    // As many datagrams of the largest size as are on their way fit in a
    // socket's buffer: none is lost, or this would wait for ever.
    ok("bench --only udp --trips 5 --messages 500 --sizes 4096 -J");
    // Nothing of the run is left.
    assert_eq!(ok(&format!("ls -QM -N {names} --noheadings")), "");
}

#[test]
fn wrong_words() {
    fails("bench --trips 0", 1, &["--trips and --messages are 1 or more"]);
    fails("bench --sizes 5000", 1, &["--sizes 5000", "8 to 4096 bytes"]);
    fails("bench --only pipe --svg /nonexistent/x", 2, &["/nonexistent/x"]);
    assert_eq!(run("bench --only nonsense").code, 1);
}
