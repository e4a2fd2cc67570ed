//! What is wrong with a command line is said in one line: what, where, why, what would
//! be right.
mod support;

use support::run;

#[test]
fn a_wrong_command_line_is_one_line() {
    for (line, expected) in [
        ("shm --sysv ls", "shm: unexpected argument '--sysv' found; 'ls --sysv' exists"),
        (
            "mq stat /x --nonsense",
            "mq stat: unexpected argument '--nonsense' found; to pass '--nonsense' as a value",
        ),
        (
            "shm read /x --count abc",
            "shm read: invalid value 'abc' for '--count <N>': a size is like 4096, 64K",
        ),
        (
            "sock listen tcp:127.0.0.1:0 --type foo",
            "sock listen: invalid value 'foo' for '--type <KIND>'; one of stream, dgram, seqpacket would be right",
        ),
        (
            "demo iflag sideways",
            "demo iflag: invalid value 'sideways' for '[STEP]'; one of create, send, receive, remove would be right",
        ),
        ("nonsense", "unrecognized subcommand 'nonsense'; "),
        (
            "wait",
            "wait: the following required arguments were not provided: <OBJECT> <CONDITION>; usage: ipc wait <OBJECT> <CONDITION>",
        ),
        (
            "mq send /x t --timeout 1s --nonblock",
            "mq send: the argument '--timeout <D>' cannot be used with '--nonblock'; usage: ipc mq send",
        ),
    ] {
        let run = run(line);
        assert_eq!((run.code, run.out.as_str()), (1, ""), "{line}: {}", run.err);
        assert!(run.err.starts_with(&format!("ipc: {expected}")), "{line}: {}", run.err);
        assert_eq!(run.err.lines().count(), 1, "{line}: {}", run.err);
    }
}
