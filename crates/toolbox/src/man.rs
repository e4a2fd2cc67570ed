//! What holds for all verbs, checked over the grammar itself: each has an
//! example that parses, and the man page is made of the same texts as `--help`.
use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command, CommandFactory, Parser};

use crate::Arguments;

/// Every command without further commands, with the words that lead to it.
fn leaves(command: &Command, words: &str, found: &mut Vec<(String, Command)>) {
    let words = format!("{words}{}", command.get_name());
    let verbs: Vec<&Command> =
        command.get_subcommands().filter(|verb| verb.get_name() != "help").collect();
    if verbs.is_empty() {
        found.push((words, command.clone()));
        return;
    }
    for verb in verbs {
        leaves(verb, &format!("{words} "), found);
    }
}

fn all() -> Vec<(String, Command)> {
    let mut command = Arguments::command();
    command.build();
    let mut found = Vec::new();
    leaves(&command, "", &mut found);
    found
}

/// A command's text and its example.
fn texts(command: &Command) -> (String, Option<String>) {
    let text =
        command.get_long_about().or(command.get_about()).map_or(String::new(), |t| t.to_string());
    // clap makes one line of a paragraph.
    match text.split_once("Example: ") {
        Some((about, example)) => (about.trim().to_owned(), Some(example.trim().to_owned())),
        None => (text.trim().to_owned(), None),
    }
}

/// Words as a shell splits them: blanks outside single quotes.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (n, part) in line.split('\'').enumerate() {
        if n % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_ascii_whitespace().map(str::to_owned));
        }
    }
    words
}

#[test]
fn every_verb_has_an_example_that_is_right() {
    for (words, command) in all() {
        let (_, example) = texts(&command);
        let example = example.unwrap_or_else(|| panic!("{words}: no example in its --help"));
        // Of a pipeline the part that is ours, without what the shell redirects.
        let ours = example
            .split(" | ")
            .find(|part| part.starts_with("ipc "))
            .unwrap_or_else(|| panic!("{words}: {example}"));
        let ours = ours.split(" < ").next().unwrap();
        assert!(ours.starts_with(&words), "{words}: {ours}");
        if let Err(error) = Arguments::try_parse_from(split(ours)) {
            panic!("{words}: its example doesn't parse: {error}");
        }
    }
}

#[test]
fn the_first_match_in_the_tables_is_meant() {
    for (typed, meant) in [
        ("mq create /q", "mq create /q"),
        ("m c /q", "mq create /q"),
        ("mq s /q x", "mq send /q x"),
        ("mq st /q", "mq stat /q"),
        ("shm w /s x", "shm write /s x"),
        ("mq l", "mq ls"),
        ("mq lst", "mq ls"),
        ("mq list", "mq ls"),
        ("mq show", "mq ls"),
        ("sig list", "sig list"),
        ("mq delete /q", "mq rm /q"),
        ("mq remove /q", "mq rm /q"),
        ("s create /q", "shm create /q"),
        ("sig s 1 TERM", "sig send 1 TERM"),
        ("frob x", "frob x"),
        ("mq frob x", "mq frob x"),
        ("child 1s QUIT s", "child 1s QUIT s"),
        ("--help", "--help"),
    ] {
        let words = |line: &str| -> Vec<std::ffi::OsString> {
            core::iter::once("ipc").chain(line.split(' ')).map(Into::into).collect()
        };
        assert_eq!(crate::spelled_out(words(typed)).0, words(meant), "{typed}");
    }
}

/// A text of clap's for roff: no character that means something to it.
fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = escaped.lines().map(|line| match line.chars().next() {
        Some('.' | '\'') => format!("\\&{line}"),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn option(page: &mut String, arg: &Arg) {
    if arg.is_hide_set() || ["help", "version"].contains(&arg.get_id().as_str()) {
        return;
    }
    let value = || {
        let names = arg.get_value_names().unwrap_or_default();
        names.iter().map(|name| name.to_string()).collect::<Vec<_>>().join(" ")
    };
    let mut shown = match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("\\fB\\-{short}\\fR, \\fB\\-\\-{}\\fR", roff(long)),
        (Some(short), None) => format!("\\fB\\-{short}\\fR"),
        (None, Some(long)) => format!("\\fB\\-\\-{}\\fR", roff(long)),
        (None, None) => format!("\\fI{}\\fR", roff(&value())),
    };
    if !arg.is_positional() && arg.get_action().takes_values() {
        write!(shown, " \\fI{}\\fR", roff(&value())).unwrap();
    }
    let help = arg.get_long_help().or(arg.get_help()).map_or(String::new(), |h| h.to_string());
    write!(page, ".TP\n{shown}\n{}", roff(&help)).unwrap();
    let defaults = arg.get_default_values();
    if arg.get_action().takes_values() && !defaults.is_empty() {
        let defaults: Vec<_> = defaults.iter().map(|d| d.to_string_lossy()).collect();
        write!(page, " [default: {}]", roff(&defaults.join(","))).unwrap();
    }
    page.push('\n');
}

fn page() -> String {
    let mut top = Arguments::command();
    top.build();
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(".TH ipc 1 \"\" \"ipc {version}\" \"User Commands\"\n");
    let (about, _) = texts(&top);
    let (first, rest) = about.split_once("\n\n").unwrap_or((&about, ""));
    let first = first.trim_end_matches('.');
    write!(page, ".SH NAME\nipc \\- {}\n", roff(first)).unwrap();
    page.push_str(
        ".SH SYNOPSIS\n\\fBipc\\fR \\fITOOL\\fR [\\fIVERB\\fR] [\\fIOPTIONS\\fR] \\fIWORDS\\fR\n",
    );
    write!(page, ".SH DESCRIPTION\n{}\n", roff(rest)).unwrap();
    let mut section = String::new();
    for (words, command) in all() {
        let tool = words.split(' ').nth(1).unwrap_or_default();
        if section != tool {
            section = tool.to_owned();
            let (about, _) = texts(top.find_subcommand(tool).expect("it is one of its"));
            let about = about.lines().next().unwrap_or_default();
            write!(page, ".SH IPC {}\n{}\n", tool.to_uppercase(), roff(about)).unwrap();
        }
        let (about, example) = texts(&command);
        write!(page, ".SS {}\n{}\n", roff(&words), roff(&about)).unwrap();
        for arg in command.get_positionals().chain(command.get_opts()) {
            option(&mut page, arg);
        }
        for arg in command.get_arguments().filter(|a| !a.get_action().takes_values()) {
            option(&mut page, arg);
        }
        if let Some(example) = example {
            write!(page, ".PP\nExample:\n.PP\n.EX\n{}\n.EE\n", roff(&example)).unwrap();
        }
    }
    page.push_str(
        ".SH EXIT STATUS\n.TP\n0\ndone\n.TP\n1\nusage, syntax, a name that can be none\n.TP\n2\n\
         refused by the system: exists, missing, not permitted, a limit\n.TP\n4\n\
         timed out, or would have to wait\n.TP\n130, 143\nended by a signal\n\
         .SH SEE ALSO\nlsipc(1), ipcmk(1), ipcrm(1), lsfd(1), mq_overview(7), shm_overview(7),\n\
         sem_overview(7), sysvipc(7), pipe(7), fifo(7), signal(7)\n",
    );
    page
}

#[test]
fn the_man_page_is_the_help() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/ipc.1");
    let now = page();
    if std::env::var_os("RTM_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        return std::fs::write(path, now).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == now,
        "man/ipc.1 differs from the help (RTM_BLESS=1 cargo test -p rtm-toolbox --bin ipc writes it)"
    );
}
