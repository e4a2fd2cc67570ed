//! Objects and verbs, and how they are abbreviated.
//!
//! A whole word wins. `l`, `ls`, `lst`, `list` are always `show`, `delete` is
//! `del`, `chg` is `change`. Then the first entry that the word is a prefix of,
//! in the order of these tables, which is that of the manual's.

use super::command::Object;

/// The objects: the word, and the object.
pub(super) const OBJECTS: [(&str, Object); 20] = [
    ("route", Object::Route),
    ("neigh", Object::Neighbour),
    ("neighbor", Object::Neighbour),
    ("neighbour", Object::Neighbour),
    ("lookup", Object::Lookup),
    ("monitor", Object::Monitor),
    ("wait", Object::Wait),
    ("client", Object::Client),
    ("status", Object::Status),
    ("digest", Object::Digest),
    ("sync", Object::Sync),
    ("source", Object::Source),
    ("flush", Object::Flush),
    ("mq", Object::Mq),
    ("stat", Object::Stat),
    ("latency", Object::Latency),
    ("tour", Object::Tour),
    ("reload", Object::Reload),
    ("completion", Object::Completion),
    ("help", Object::Help),
];

const ROUTE: [&str; 12] = [
    "show", "add", "change", "replace", "append", "prepend", "del", "get", "flush", "load", "save",
    "help",
];
const NEIGHBOUR: [&str; 7] = ["show", "add", "change", "replace", "del", "flush", "help"];
const CLIENT: [&str; 3] = ["show", "kill", "help"];
const STATUS: [&str; 2] = ["image", "help"];
const SOURCE: [&str; 3] = ["show", "reconcile", "help"];
const FLUSH: [&str; 4] = ["routes", "neighbours", "all", "help"];
const MQ: [&str; 2] = ["send", "help"];
const WAIT: [&str; 3] = ["route", "neigh", "help"];
const COMPLETION: [&str; 4] = ["bash", "zsh", "fish", "help"];
const NONE: [&str; 1] = ["help"];

/// The verbs of an object, in the order of the manual; `show` stands also for
/// `list`.
pub fn verbs(object: Object) -> &'static [&'static str] {
    match object {
        Object::Route => &ROUTE,
        Object::Neighbour => &NEIGHBOUR,
        Object::Client => &CLIENT,
        Object::Status => &STATUS,
        Object::Source => &SOURCE,
        Object::Flush => &FLUSH,
        Object::Mq => &MQ,
        Object::Wait => &WAIT,
        Object::Completion => &COMPLETION,
        _ => &NONE,
    }
}

/// The words of the objects, in the order of the manual.
pub fn objects() -> impl Iterator<Item = (&'static str, Object)> {
    OBJECTS.into_iter()
}

impl Object {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Object::Batch => "-batch",
            object => OBJECTS.iter().find(|(_, have)| *have == object).map_or("", |entry| entry.0),
        }
    }
}

/// The object that a word means.
#[inline]
pub(super) fn object(word: &str) -> Option<Object> {
    let whole = OBJECTS.iter().find(|(name, _)| *name == word);
    whole
        .or_else(|| OBJECTS.iter().find(|(name, _)| !word.is_empty() && name.starts_with(word)))
        .map(|&(_, object)| object)
}

/// The verb of `object` that a word means.
#[inline]
pub(super) fn verb(object: Object, word: &str) -> Option<&'static str> {
    let table = verbs(object);
    let alias = match word {
        "l" | "ls" | "lst" | "list" => "show",
        "delete" => "del",
        "chg" => "change",
        word => word,
    };
    if let Some(whole) = table.iter().find(|name| **name == alias) {
        return Some(whole);
    }
    if word.is_empty() {
        return None;
    }
    // `dele` abbreviates `delete`, and `li` nothing but `list`.
    let starts = |name: &&&'static str| {
        name.starts_with(word)
            || **name == "del" && "delete".starts_with(word)
            || **name == "show" && "list".starts_with(word)
    };
    table.iter().find(starts).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abbreviations_are_those_of_the_manual() {
        for (word, expected) in [
            ("r", "route"),
            ("ro", "route"),
            ("re", "reload"),
            ("n", "neigh"),
            ("neighbo", "neigh"),
            ("neighbour", "neigh"),
            ("l", "lookup"),
            ("la", "latency"),
            ("m", "monitor"),
            ("mq", "mq"),
            ("s", "status"),
            ("stat", "stat"),
            ("statu", "status"),
            ("sy", "sync"),
            ("so", "source"),
            ("d", "digest"),
            ("f", "flush"),
            ("c", "client"),
            ("co", "completion"),
            ("t", "tour"),
            ("w", "wait"),
            ("h", "help"),
            ("", "-"),
            ("x", "-"),
            ("routes", "-"),
        ] {
            let found = object(word).map_or("-", Object::name);
            assert_eq!(found, expected, "{word:?}");
        }
        for (of, word, expected) in [
            (Object::Route, "l", Some("show")),
            (Object::Route, "ls", Some("show")),
            (Object::Route, "lst", Some("show")),
            (Object::Route, "list", Some("show")),
            (Object::Route, "li", Some("show")),
            (Object::Route, "lo", Some("load")),
            (Object::Route, "s", Some("show")),
            (Object::Route, "sa", Some("save")),
            (Object::Route, "a", Some("add")),
            (Object::Route, "ap", Some("append")),
            (Object::Route, "c", Some("change")),
            (Object::Route, "chg", Some("change")),
            (Object::Route, "r", Some("replace")),
            (Object::Route, "p", Some("prepend")),
            (Object::Route, "d", Some("del")),
            (Object::Route, "dele", Some("del")),
            (Object::Route, "delete", Some("del")),
            (Object::Route, "g", Some("get")),
            (Object::Route, "f", Some("flush")),
            (Object::Route, "x", None),
            (Object::Route, "", None),
            (Object::Neighbour, "r", Some("replace")),
            (Object::Neighbour, "get", None),
            (Object::Client, "list", Some("show")),
            (Object::Client, "k", Some("kill")),
            (Object::Source, "l", Some("show")),
            (Object::Source, "rec", Some("reconcile")),
        ] {
            assert_eq!(verb(of, word), expected, "{of:?} {word:?}");
        }
    }
}
