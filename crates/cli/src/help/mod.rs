//! Help at every level, from one table that completion and the man page are
//! made of as well.
//!
//! A topic is a command or a group of them; its words lead to it, abbreviated
//! as in the grammar. `rtm route add --help` prints one topic, `rtm route
//! --help` the list of those below and their examples.

mod topics;

use std::fmt::Write as _;

pub(crate) use topics::{OPTIONS, TOPICS};

/// One command's help.
pub(crate) struct Topic {
    /// The words that lead to it.
    pub(crate) words: &'static str,
    /// What follows them; one line each.
    pub(crate) usage: &'static [&'static str],
    /// What it does, in a few words.
    pub(crate) about: &'static str,
    /// What else is worth knowing; lines as they are printed.
    pub(crate) more: &'static [&'static str],
    /// Options and clauses of its own, with what they mean.
    pub(crate) options: &'static [(&'static str, &'static str)],
    /// A command line that works.
    pub(crate) example: &'static str,
}

/// An option that every command takes.
pub(crate) struct GlobalOption {
    /// As it is written, short form first.
    pub(crate) forms: &'static [&'static str],
    /// Its argument's name; empty: none.
    pub(crate) argument: &'static str,
    /// What it does.
    pub(crate) about: &'static str,
}

/// The words that all mean one verb, as iproute2 has them.
const SYNONYMS: [(&str, &str); 6] = [
    ("l", "show"),
    ("ls", "show"),
    ("lst", "show"),
    ("list", "show"),
    ("delete", "del"),
    ("chg", "change"),
];

/// The text of `-h` behind these words.
pub(crate) fn text(words: &[String]) -> String {
    match find(words) {
        Found::Topic(topic) => one(topic),
        Found::Group(group) => below(&group),
        Found::All => all(),
    }
}

enum Found {
    Topic(&'static Topic),
    Group(String),
    All,
}

/// Follows the words as far as they lead; a word that leads nowhere is an
/// argument.
fn find(words: &[String]) -> Found {
    let mut path = String::new();
    for word in words {
        let Some(next) = step(&path, word) else { break };
        if !path.is_empty() {
            path.push(' ');
        }
        path.push_str(next);
    }
    if path.is_empty() {
        return Found::All;
    }
    match TOPICS.iter().find(|topic| topic.words == path) {
        // `rtm client` is a command and the head of others: its own help
        // comes first, theirs are named there.
        Some(topic) => Found::Topic(topic),
        None => Found::Group(path),
    }
}

/// The word below `path` that `word` stands for: a whole word wins, then the
/// synonyms, then the first that it begins.
fn step(path: &str, word: &str) -> Option<&'static str> {
    let below: Vec<&'static str> = children(path);
    let list = |word: &str| below.iter().find(|&&child| child == word).copied();
    let synonym = || {
        let (_, meant) = SYNONYMS.iter().find(|(from, _)| *from == word)?;
        // `client list` and `source list` are spelled so; `list` means `show`
        // only where there is a `show`.
        list(meant).or_else(|| (*meant == "show").then(|| list("list")).flatten())
    };
    // The grammar's own word for `list` is `show`.
    let show = || (word == "show").then(|| list("list")).flatten();
    list(word)
        .or_else(show)
        .or_else(synonym)
        .or_else(|| below.iter().find(|child| !word.is_empty() && child.starts_with(word)).copied())
}

/// The words that may follow `path`.
pub(crate) fn children(path: &str) -> Vec<&'static str> {
    let mut found: Vec<&'static str> = Vec::new();
    for topic in TOPICS {
        let rest = match path {
            "" => Some(topic.words),
            path => topic.words.strip_prefix(path).and_then(|rest| rest.strip_prefix(' ')),
        };
        let Some(child) = rest.and_then(|rest| rest.split(' ').next()) else { continue };
        if !found.contains(&child) {
            found.push(child);
        }
    }
    found
}

fn one(topic: &Topic) -> String {
    let mut text = String::new();
    usage(&mut text, topic);
    let _ = writeln!(text, "\n{}.", topic.about);
    for line in topic.more {
        let _ = writeln!(text, "{line}");
    }
    if !topic.options.is_empty() {
        text.push('\n');
        list(&mut text, topic.options.iter().map(|(name, about)| ((*name).to_owned(), *about)));
    }
    let _ = writeln!(text, "\nExample:\n  {}", topic.example);
    let below: Vec<&Topic> = children(topic.words)
        .iter()
        .filter_map(|child| {
            let words = format!("{} {child}", topic.words);
            TOPICS.iter().find(|other| other.words == words)
        })
        .collect();
    if !below.is_empty() {
        text.push_str("\nSee also:\n");
        list(&mut text, below.iter().map(|topic| (format!("rtm {}", topic.words), topic.about)));
    }
    text
}

fn usage(text: &mut String, topic: &Topic) {
    for (index, line) in topic.usage.iter().enumerate() {
        let head = if index == 0 { "Usage: " } else { "       " };
        let _ = writeln!(text, "{}", format!("{head}rtm {} {line}", topic.words).trim_end());
    }
}

fn below(group: &str) -> String {
    let topics: Vec<&Topic> = TOPICS
        .iter()
        .filter(|topic| topic.words.strip_prefix(group).is_some_and(|rest| rest.starts_with(' ')))
        .collect();
    let mut text = format!("Usage: rtm {group} COMMAND ...\n\nCommands:\n");
    list(
        &mut text,
        topics.iter().map(|topic| (topic.words[group.len() + 1..].to_owned(), topic.about)),
    );
    text.push_str("\nExamples:\n");
    for topic in &topics {
        let _ = writeln!(text, "  {}", topic.example);
    }
    let _ = writeln!(text, "\n'rtm {group} COMMAND --help' has the details.");
    text
}

fn all() -> String {
    let mut text = String::from(
        "rtm: routes and neighbours, the same for everybody\n\n\
         Usage: rtm [OPTIONS] OBJECT [COMMAND] ...\n       rtm [OPTIONS] -batch FILE|-\n\nCommands:\n",
    );
    list(&mut text, TOPICS.iter().map(|topic| (topic.words.to_owned(), topic.about)));
    text.push_str("\nOptions:\n");
    let forms = |option: &GlobalOption| {
        let forms = option.forms.join(", ");
        if option.argument.is_empty() { forms } else { format!("{forms} {}", option.argument) }
    };
    list(&mut text, OPTIONS.iter().map(|option| (forms(option), option.about)));
    text.push_str(
        "\nExamples:\n  rtm route add 10.0.0.0/8 via 192.0.2.1 dev eth0\n  rtm route show 10.0.0.0/8\n  \
         rtm monitor\n  rtm -batch changes.txt --atomic\n\nWords can be shortened (rtm r s). 'rtm OBJECT COMMAND --help' has the details.\n\
         Exit codes: 0 done, 1 usage or bad data, 2 refused, 3 no daemon, 4 timed out or not all agreed.\n",
    );
    text
}

/// Lines of `name  about`, aligned; a name that is too long has a line of its
/// own.
fn list<'a>(text: &mut String, lines: impl Iterator<Item = (String, &'a str)>) {
    const NAME_COLUMNS: usize = 26;
    for (name, about) in lines {
        if name.len() > NAME_COLUMNS {
            let _ = writeln!(text, "  {name}\n  {:NAME_COLUMNS$}  {about}", "");
        } else {
            let _ = writeln!(text, "  {name:NAME_COLUMNS$}  {about}");
        }
    }
}

/// The manual page, in man(7)'s markup: `rtm help --man` prints it.
pub(crate) fn man() -> String {
    let escape = |line: &str| {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
    };
    let mut page = String::from(
        ".TH RTM 1 \"\" \"rtm\" \"User Commands\"\n.SH NAME\nrtm \\- routes and neighbours, the same for everybody\n\
         .SH SYNOPSIS\n.B rtm\n[OPTIONS] OBJECT [COMMAND] ...\n.br\n.B rtm\n[OPTIONS] \\-batch FILE|\\-\n\
         .SH DESCRIPTION\nAsks and tells\n.BR rtmd (8),\nthe daemon that owns the routing table and the neighbour table, and follows it.\n\
         Words can be shortened as in\n.BR ip (8).\n.SH OPTIONS\n",
    );
    for option in OPTIONS {
        let _ = writeln!(page, ".TP\n.B {}", escape(&option.forms.join(", ")));
        if !option.argument.is_empty() {
            page.truncate(page.len() - 1);
            let _ = writeln!(page, " {}", escape(option.argument));
        }
        let _ = writeln!(page, "{}", escape(option.about));
    }
    page.push_str(".SH COMMANDS\n");
    for topic in TOPICS {
        let _ = writeln!(page, ".SS rtm {}", escape(topic.words));
        for line in topic.usage {
            let _ =
                writeln!(page, "{}\n.br", escape(format!("rtm {} {line}", topic.words).trim_end()));
        }
        let _ = writeln!(page, ".PP\n{}.", escape(topic.about));
        for line in topic.more {
            let _ = writeln!(page, "{}", escape(line));
        }
        for (name, about) in topic.options {
            let _ = writeln!(page, ".TP\n.B {}\n{}", escape(name), escape(about));
        }
        let _ = writeln!(page, ".PP\nExample:\n.PP\n.RS\n.B {}\n.RE", escape(topic.example));
    }
    page.push_str(
        ".SH ENVIRONMENT\n.TP\n.B RTM_SOCKET\nThe daemon's socket, as \\-\\-socket.\n.TP\n.B RTM_RUNTIME_DIR\n\
         Its runtime directory, as \\-\\-runtime\\-dir.\n.TP\n.B NO_COLOR\nNo colour, unless \\-\\-color=always.\n\
         .SH EXIT STATUS\n0 done; 1 usage, syntax, bad data in a file, a failed batch; 2 refused by the daemon or the system;\n\
         3 no daemon, or no access to its socket; 4 timed out, or not all agreed.\n\
         .SH SEE ALSO\n.BR rtmd (8),\n.BR ip (8),\n.BR ip\\-route (8)\n",
    );
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn words_lead_to_their_topic() {
        for (line, usage) in [
            ("route add", "Usage: rtm route add "),
            ("r a", "Usage: rtm route add "),
            ("ro del", "Usage: rtm route del "),
            ("route delete 10/8", "Usage: rtm route del "),
            ("route ls", "Usage: rtm route show "),
            ("neigh l", "Usage: rtm neigh show "),
            ("client list", "Usage: rtm client list"),
            ("client ls", "Usage: rtm client list"),
            ("client show", "Usage: rtm client list"),
            ("client", "Usage: rtm client ["),
            ("route", "Usage: rtm route COMMAND"),
            ("neigh", "Usage: rtm neigh COMMAND"),
            ("-batch", "Usage: rtm -batch "),
            ("", "rtm: routes and neighbours"),
            ("nonsense", "rtm: routes and neighbours"),
        ] {
            let text = text(&words(line));
            assert!(text.starts_with(usage), "{line}: {text}");
        }
    }

    #[test]
    fn every_topic_has_an_example_of_its_own_command() {
        for topic in TOPICS {
            assert!(
                topic.example.contains(&format!("rtm {}", topic.words))
                    || topic.example.contains("| rtm"),
                "{}: {}",
                topic.words,
                topic.example
            );
            assert!(!topic.usage.is_empty(), "{}", topic.words);
            assert!(!topic.about.ends_with('.'), "{}", topic.words);
        }
    }

    #[test]
    fn every_example_is_a_command() {
        use rtm_model::text::{Context, parse_args};
        for topic in TOPICS {
            let command = topic.example.rsplit("| ").next().unwrap_or_default();
            let command = command.split(" >").next().unwrap_or_default();
            let words: Vec<&str> = command.split(' ').skip(1).collect();
            if let Err(error) = parse_args(&words, &Context::default()) {
                panic!("{command}: {error}");
            }
        }
    }

    #[test]
    fn every_verb_of_this_version_has_help() {
        use rtm_model::text::{objects, verbs};
        let later = ["mq", "tour", "help", "neighbor", "neighbour"];
        let later_verbs = ["help", "prepend"];
        for (word, object) in objects().filter(|(word, _)| !later.contains(word)) {
            for verb in verbs(object).iter().filter(|verb| !later_verbs.contains(verb)) {
                let text = text(&[word.to_owned(), (*verb).to_owned()]);
                // What stands behind such a word is a value, not a verb.
                let whole = matches!(word, "flush" | "completion");
                let verb = if whole { "" } else { verb };
                let verb = if matches!(word, "client" | "source") && verb == "show" {
                    "list"
                } else {
                    verb
                };
                let usage = format!("Usage: rtm {word} {verb}");
                assert!(text.starts_with(usage.trim_end()), "{word} {verb}: {text}");
            }
        }
    }

    #[test]
    fn the_manual_page_is_that_of_the_table() {
        let page = include_str!("../../man/rtm.1");
        assert_eq!(page, man(), "`rtm help --man > crates/cli/man/rtm.1` makes it anew");
    }

    #[test]
    fn help_fits_a_terminal() {
        for topic in TOPICS {
            let (one, all) = (one(topic), all());
            for line in one.lines().chain(all.lines()) {
                assert!(line.chars().count() <= 120, "{}: {line}", topic.words);
            }
        }
    }
}
