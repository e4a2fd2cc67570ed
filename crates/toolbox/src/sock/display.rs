//! The display server: one process owns a resource (here: its terminal, divided
//! into windows), everybody else asks it through its socket, and what happens
//! there (keys) goes to the client whose window it is.
//!
//! A client's requests, a line each, and their answers:
//! `open TITLE` → `window N`; `draw N TEXT` → `ok`; `close N` → `ok`. A window
//! belongs to who opened it and goes with the connection. The console's line
//! `key N TEXT` becomes `event N key TEXT` at the owner of window N.
use std::collections::BTreeMap;

/// How many windows one client may have: it costs the server memory.
const WINDOWS_PER_CLIENT_MAX: usize = 64;

/// All windows.
#[derive(Default)]
pub(crate) struct Display {
    /// The owner of each window.
    windows: BTreeMap<u64, u64>,
    last: u64,
}

/// What a request leads to: a line for the client, and one on the screen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) answer: String,
    pub(crate) shown: Option<String>,
}

impl Display {
    /// One line of a client.
    pub(crate) fn request(&mut self, client: u64, line: &str) -> Outcome {
        let refused = |why: String| Outcome { answer: format!("error: {why}"), shown: None };
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        if verb == "open" && !rest.is_empty() {
            let has = self.windows.values().filter(|owner| **owner == client).count();
            if has >= WINDOWS_PER_CLIENT_MAX {
                return refused(format!(
                    "you have {has} windows, and more are not to be had; close one"
                ));
            }
            self.last += 1;
            self.windows.insert(self.last, client);
            let window = self.last;
            return Outcome {
                answer: format!("window {window}"),
                shown: Some(format!("window {window} of client {client}: {}", printable(rest))),
            };
        }
        let (number, text) = rest.split_once(' ').unwrap_or((rest, ""));
        if !matches!(verb, "draw" | "close") || number.is_empty() {
            let line = printable(line);
            return refused(format!("{line:?}: it takes open TITLE, draw N TEXT or close N"));
        }
        let Some((window, owner)) =
            number.parse().ok().and_then(|n: u64| self.windows.get(&n).map(|owner| (n, *owner)))
        else {
            return refused(format!("window {}: there is none; open makes one", printable(number)));
        };
        if owner != client {
            return refused(format!("window {window}: belongs to another client"));
        }
        let shown = if verb == "draw" {
            format!("window {window}: {}", printable(text))
        } else {
            self.windows.remove(&window);
            format!("window {window} closed")
        };
        Outcome { answer: "ok".to_owned(), shown: Some(shown) }
    }

    /// One line of the console: who is to be told what.
    pub(crate) fn event(&self, line: &str) -> Result<(u64, String), String> {
        let wrong = || format!("{line}: it takes key N TEXT, N a window's number");
        let rest = line.strip_prefix("key ").ok_or_else(wrong)?;
        let (number, key) = rest.split_once(' ').ok_or_else(wrong)?;
        let window: u64 = number.parse().map_err(|_| wrong())?;
        let owner = self.windows.get(&window).ok_or_else(|| format!("window {window}: none"))?;
        Ok((*owner, format!("event {window} key {key}")))
    }

    /// A client is gone, and its windows with it.
    pub(crate) fn gone(&mut self, client: u64) -> Vec<String> {
        let theirs: Vec<u64> =
            self.windows.iter().filter(|(_, owner)| **owner == client).map(|(w, _)| *w).collect();
        for window in &theirs {
            self.windows.remove(window);
        }
        theirs.iter().map(|w| format!("window {w} closed: client {client} is gone")).collect()
    }
}

/// No client writes control characters to the server's terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_events() {
        let mut display = Display::default();
        let mut check = |client, line: &str, answer: &str| {
            let outcome = display.request(client, line);
            assert!(outcome.answer.starts_with(answer), "{line}: {outcome:?}");
        };
        check(1, "open clock", "window 1");
        check(2, "open editor", "window 2");
        check(1, "draw 1 12:00", "ok");
        check(2, "draw 1 mine", "error: window 1: belongs to another client");
        check(2, "close 1", "error: window 1: belongs to another client");
        check(2, "draw 9 x", "error: window 9: there is none");
        check(2, "draw 99999999999999999999 x", "error: window 9999");
        for line in ["", "open", "draw", "close", "frob 1", "\u{1b}[2J"] {
            check(2, line, "error: ");
        }
        assert_eq!(display.event("key 2 Enter"), Ok((2, "event 2 key Enter".to_owned())));
        for line in ["key", "key 2", "key x y", "key 7 y", "q"] {
            assert!(display.event(line).is_err(), "{line}");
        }
        assert_eq!(display.gone(1), ["window 1 closed: client 1 is gone"]);
        assert!(display.event("key 1 x").is_err());
        for _ in 0..WINDOWS_PER_CLIENT_MAX {
            display.request(3, "open more");
        }
        assert!(display.request(3, "open more").answer.starts_with("error: you have 64"));
    }
}
