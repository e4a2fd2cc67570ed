//! `rtm -batch`: iproute2's lines, as one stream.

use std::path::PathBuf;

use rtm_e2e::{Daemon, Output};

fn write(daemon: &Daemon, content: &str) -> PathBuf {
    let path = daemon.directory().join("lines");
    std::fs::write(&path, content).unwrap();
    path
}

fn batch(daemon: &Daemon, content: &str, args: &[&str]) -> Output {
    let path = write(daemon, content);
    let mut all = vec!["-batch", path.to_str().unwrap()];
    all.extend(args);
    let mut output = daemon.run(&all);
    output.err = output.err.replace(path.to_str().unwrap(), "FILE");
    output
}

fn routes(daemon: &Daemon) -> Vec<String> {
    let listing = daemon.rtm(&["route", "show", "table", "all"]);
    listing.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn lines_with_comments_and_continuations() {
    let daemon = Daemon::start(&[]);
    let output = batch(
        &daemon,
        "# a comment\n\nroute add 10/8 \\\n  via 192.0.2.1 \\\n  dev a # why\n\
         neigh add 10.0.0.7 lladdr 02:00:00:00:00:07\nroute show 10/8\nroute del 10/8\nroute add 11/8 dev 'b'\n",
        &[],
    );
    assert_eq!((output.code, output.err.as_str()), (Some(0), ""));
    // Another command sees what stands before it, and not what follows.
    assert_eq!(output.out, "10.0.0.0/8 via 192.0.2.1 dev a proto static \n");
    assert_eq!(routes(&daemon), ["11.0.0.0/8"]);
}

#[test]
fn it_stops_at_the_first_error_and_earlier_lines_stay() {
    let daemon = Daemon::start(&[]);
    let output = batch(
        &daemon,
        "route add 10/8 dev a\n# x\nroute add 10/8 dev b\nroute add 11/8 dev a\n",
        &[],
    );
    assert_eq!(output.code, Some(1));
    assert_eq!(
        output.err,
        "rtm: 10.0.0.0/8: exists already; 'replace' would change it\nCommand failed FILE:3\n"
    );
    assert_eq!(routes(&daemon), ["10.0.0.0/8"]);
    let output =
        batch(&daemon, "route add 12/8 dev a\nroute frobnicate\nroute add 13/8 dev a\n", &[]);
    assert_eq!(output.code, Some(1));
    assert!(output.err.ends_with("\nCommand failed FILE:2\n"), "{}", output.err);
    assert!(output.err.starts_with("rtm: route: frobnicate: unknown verb"), "{}", output.err);
    assert_eq!(routes(&daemon), ["10.0.0.0/8", "12.0.0.0/8"]);
    let output =
        batch(&daemon, "route add 14/8 dev a\nroute get 99.0.0.1\nroute add 15/8 dev a\n", &[]);
    assert_eq!((output.code, output.out.as_str()), (Some(1), "99.0.0.1 unreachable\n"));
    assert_eq!(output.err, "Command failed FILE:2\n");
    let output = batch(&daemon, "route add 16/8 dev a \\\n", &[]);
    assert_eq!(
        (output.code, output.err.contains("Command failed FILE:1")),
        (Some(1), true),
        "{}",
        output.err
    );
}

#[test]
fn force_goes_on() {
    let daemon = Daemon::start(&[]);
    let output = batch(
        &daemon,
        "route add 10/8 dev a\nroute add 10/8 dev b\nrubbish\nroute del 99/8\nroute add 11/8 dev a\n\
         client kill nobody\nroute add 12/8 dev a\n",
        &["--force"],
    );
    assert_eq!(output.code, Some(1));
    for line in [2, 3, 4, 6] {
        assert!(
            output.err.contains(&format!("Command failed FILE:{line}\n")),
            "{line}: {}",
            output.err
        );
    }
    assert_eq!(output.err.matches("Command failed").count(), 4, "{}", output.err);
    assert_eq!(routes(&daemon), ["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8"]);
}

#[test]
fn atomic_is_all_or_none() {
    let daemon = Daemon::start(&[]);
    for (content, line) in [
        ("route add 10/8 dev a\nroute add 10/8 dev b\n", 2),
        ("route add 10/8 dev a\nrubbish\n", 2),
        ("route add 10/8 dev a\n\nroute show\n", 3),
    ] {
        let output = batch(&daemon, content, &["--atomic"]);
        assert_eq!(output.code, Some(1), "{content}");
        assert!(output.err.ends_with(&format!("\nCommand failed FILE:{line}\n")), "{}", output.err);
        assert_eq!(routes(&daemon), Vec::<String>::new(), "{content}");
    }
    let content: String =
        (0..2000).map(|n| format!("route add 10.{}.{}.0/24 dev a\n", n / 256, n % 256)).collect();
    let output = batch(&daemon, &format!("{content}route add 10.0.0.0/24 dev a\n"), &["--atomic"]);
    assert_eq!(output.code, Some(1));
    assert!(output.err.contains("Command failed FILE:2001"), "{}", output.err);
    assert_eq!(daemon.json(&["digest"])["revision"], 0);
    assert_eq!(batch(&daemon, &content, &["--atomic"]).code, Some(0));
    assert_eq!(daemon.json(&["digest"])["revision"], 1);
    assert_eq!(routes(&daemon).len(), 2000);
    let output = batch(&daemon, "", &["--atomic", "--force"]);
    assert_eq!(
        (output.code, output.err.contains("contradicts")),
        (Some(1), true),
        "{}",
        output.err
    );
}

#[test]
fn standard_input_is_taken_line_by_line() {
    let daemon = Daemon::start(&[]);
    let mut process = daemon.spawn(&["-batch", "-"]);
    process.write("route add 10/8 dev a\n");
    // It is there while the input is still open.
    daemon.rtm(&["wait", "route", "10/8", "--timeout", "60"]);
    process.write("route show\n");
    process.wait_stdout("10.0.0.0/8 dev a");
    process.write("route del 10/8\nroute del 10/8\n");
    let output = process.finish();
    assert_eq!(output.code, Some(1));
    assert_eq!(
        output.err,
        "rtm: 10.0.0.0/8: does not exist; 'show' lists what there is, 'add' makes one\nCommand failed -:4\n"
    );
}

#[test]
fn many_lines_go_as_one_stream() {
    let daemon = Daemon::start(&[]);
    let content: String = (0..50_000)
        .map(|n| {
            format!(
                "route replace 10.{}.{}.{}/32 via 192.0.2.{} dev e{}\n",
                n / 65536,
                n / 256 % 256,
                n % 256,
                n % 200,
                n % 32
            )
        })
        .collect();
    let output = batch(&daemon, &content, &[]);
    assert_eq!((output.code, output.err.as_str()), (Some(0), ""));
    assert_eq!(daemon.rtm(&["route", "show", "--count"]), "50000\n");
    assert_eq!(daemon.rtm(&["client", "--once", "--verify"]), daemon.rtm(&["digest"]));
}

#[test]
fn a_batch_is_not_nested_and_its_options_stay_outside() {
    let daemon = Daemon::start(&[]);
    let output = batch(&daemon, "-batch x\n", &[]);
    assert_eq!(output.code, Some(1));
    let output = batch(&daemon, "--socket /x route show\n", &[]);
    assert_eq!((output.code, output.err.contains("belongs to the command line")), (Some(1), true));
    let output = batch(&daemon, "route add 10/8 dev a\n-j route show\nroute show\n", &[]);
    assert_eq!(
        output.out,
        "[{\"dst\":\"10.0.0.0/8\",\"dev\":\"a\",\"protocol\":\"static\",\"scope\":\"link\",\"flags\":[]}]\n\
         10.0.0.0/8 dev a proto static scope link \n"
    );
}
