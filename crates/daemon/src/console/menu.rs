//! The menu as a state machine: a line in, text and an order out. It knows
//! neither terminal nor tables.
//!
//! ```text
//!            1 2 3 5 6                     a field is missing
//!   Choice ------------> Entry ----------------------------+
//!     ^  |                 ^ |                             |
//!     |  | 0               | +-----------------------------+
//!     |  v                 | complete, or wrong: one line
//!     | Quit: y/n          v
//!     +---------------- an order, or none; the menu again
//! ```

use rtm_model::text::{
    Command, Context, FlushWhat, Options, parse_line, short_destination, short_neighbour,
    short_neighbour_key, short_route,
};
use rtm_model::{Change, Hops, Verb};

/// The choices, as they are shown.
pub(crate) const MENU: &str = concat!(
    " 1  insert route\n",
    " 2  update route\n",
    " 3  delete route\n",
    " 4  show routing table\n",
    " 5  insert or update neighbour\n",
    " 6  delete neighbour\n",
    " 7  show MAC table\n",
    " 8  flush both tables\n",
    " 9  list clients\n",
    " 0  quit\n",
    "or a command, like: route add 10.0.0.0/8 via 10.1.1.1 dev eth0\n",
);

/// What the menu asks for at its choice.
const PROMPT: &str = "rtmd> ";

/// The question before the end.
const QUIT: &str = "stop rtmd? y/n ";

/// The longest line that is taken.
pub(crate) const LINE_BYTES_MAX: usize = 4096;

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Order {
    /// Nothing; show the menu again.
    Menu,
    /// Nothing; ask on: the prompt says for what.
    Ask,
    /// Change something.
    Change(Change),
    /// A command of the grammar.
    Command(Box<(Options, Command)>),
    /// The routing table.
    Routes,
    /// The MAC table.
    Neighbours,
    /// The sessions.
    Clients,
    /// Stop the daemon.
    Quit,
}

/// What an entry is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entry {
    InsertRoute,
    UpdateRoute,
    DeleteRoute,
    Neighbour,
    DeleteNeighbour,
}

impl Entry {
    /// The fields, as they are asked for.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Entry::InsertRoute | Entry::UpdateRoute => {
                &["destination/mask", "gateway ('-': none)", "oif ('-': none)"]
            }
            Entry::DeleteRoute => &["destination/mask"],
            Entry::Neighbour => &["mac", "ip", "oif ('-': none)"],
            Entry::DeleteNeighbour => &["ip"],
        }
    }

    /// The whole line, as it is asked for first.
    fn line(self) -> &'static str {
        match self {
            Entry::InsertRoute | Entry::UpdateRoute => "<destination/mask> <gateway> <oif>: ",
            Entry::DeleteRoute => "<destination/mask>: ",
            Entry::Neighbour => "<mac> <ip> [oif]: ",
            Entry::DeleteNeighbour => "[mac] <ip> [oif]: ",
        }
    }

    /// With so many fields at once nothing more is asked for.
    fn enough(self) -> usize {
        match self {
            Entry::InsertRoute | Entry::UpdateRoute => 3,
            Entry::Neighbour => 2,
            Entry::DeleteRoute | Entry::DeleteNeighbour => 1,
        }
    }
}

enum State {
    Choice,
    /// The fields that are there so far.
    Entry(Entry, Vec<String>),
    Quit,
}

/// The menu.
pub(crate) struct Menu {
    state: State,
}

impl Menu {
    /// At its choice.
    pub(crate) fn new() -> Menu {
        Menu { state: State::Choice }
    }

    /// What is asked for now.
    pub(crate) fn prompt(&self) -> String {
        match &self.state {
            State::Choice => PROMPT.to_owned(),
            State::Quit => QUIT.to_owned(),
            State::Entry(entry, have) if have.is_empty() => entry.line().to_owned(),
            State::Entry(entry, have) => format!("{}: ", entry.fields()[have.len()]),
        }
    }

    /// One line. An error is the one clear line that a wrong entry gets; the
    /// menu follows it.
    pub(crate) fn line(&mut self, line: &str, cx: &Context<'_>) -> Result<Order, String> {
        let line = line.trim();
        match std::mem::replace(&mut self.state, State::Choice) {
            State::Choice => self.choice(line, cx),
            State::Quit => match line {
                "y" | "Y" | "yes" => Ok(Order::Quit),
                "n" | "N" | "no" | "" => Ok(Order::Menu),
                other => {
                    self.state = State::Quit;
                    let _ = other;
                    Ok(Order::Ask)
                }
            },
            State::Entry(entry, have) => self.entry(entry, have, line, cx),
        }
    }

    fn choice(&mut self, line: &str, cx: &Context<'_>) -> Result<Order, String> {
        let entry = match line {
            "" => return Ok(Order::Menu),
            "1" => Entry::InsertRoute,
            "2" => Entry::UpdateRoute,
            "3" => Entry::DeleteRoute,
            "4" => return Ok(Order::Routes),
            "5" => Entry::Neighbour,
            "6" => Entry::DeleteNeighbour,
            "7" => return Ok(Order::Neighbours),
            "8" => {
                let flush = (Options::default(), Command::Flush(FlushWhat::All));
                return Ok(Order::Command(Box::new(flush)));
            }
            "9" => return Ok(Order::Clients),
            "0" => {
                self.state = State::Quit;
                return Ok(Order::Ask);
            }
            other if other.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Err(format!("menu: {other}: no such choice; 0 to 9 would be right"));
            }
            command => {
                return match parse_line(command, cx).map_err(|error| error.to_string())? {
                    Some(command) => Ok(Order::Command(Box::new(command))),
                    None => Ok(Order::Menu),
                };
            }
        };
        self.state = State::Entry(entry, Vec::new());
        Ok(Order::Ask)
    }

    fn entry(
        &mut self,
        entry: Entry,
        mut have: Vec<String>,
        line: &str,
        cx: &Context<'_>,
    ) -> Result<Order, String> {
        let whole = have.is_empty();
        if line.is_empty() {
            let last = have.len() + 1 == entry.fields().len();
            if entry == Entry::Neighbour && last {
                have.push("-".to_owned());
            } else {
                return Err(format!(
                    "{}: nothing was entered; {} would be right",
                    entry.fields()[have.len()],
                    entry.line().trim_end_matches(": ")
                ));
            }
        }
        have.extend(line.split_ascii_whitespace().map(str::to_owned));
        let complete = have.len() >= if whole { entry.enough() } else { entry.fields().len() };
        if !complete {
            // A wrong destination is told before anything else is asked for.
            if matches!(entry, Entry::InsertRoute | Entry::UpdateRoute) && have.len() == 1 {
                short_destination(&have[0], cx).map_err(|error| error.to_string())?;
            }
            self.state = State::Entry(entry, have);
            return Ok(Order::Ask);
        }
        change(entry, &have.join(" "), cx).map(Order::Change)
    }
}

fn change(entry: Entry, line: &str, cx: &Context<'_>) -> Result<Change, String> {
    let wrong = |error: rtm_model::text::TextError| error.to_string();
    Ok(match entry {
        Entry::InsertRoute => Change::Route(Verb::Add, short_route(line, cx).map_err(wrong)?),
        Entry::UpdateRoute => Change::Route(Verb::Change, short_route(line, cx).map_err(wrong)?),
        Entry::DeleteRoute => {
            let mut spec = short_destination(line, cx).map_err(wrong)?;
            spec.hops = Hops::None;
            Change::Route(Verb::Delete, spec)
        }
        Entry::Neighbour => {
            Change::Neighbour(Verb::Replace, short_neighbour(line, cx).map_err(wrong)?)
        }
        Entry::DeleteNeighbour => {
            Change::Neighbour(Verb::Delete, short_neighbour_key(line, cx).map_err(wrong)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a menu does with some lines: errors, prompts, orders.
    fn say(lines: &[&str]) -> Vec<String> {
        let mut menu = Menu::new();
        lines
            .iter()
            .map(|line| match menu.line(line, &Context::default()) {
                Err(error) => format!("! {error}"),
                Ok(Order::Ask) => format!("? {}", menu.prompt()),
                Ok(Order::Menu) => "menu".to_owned(),
                Ok(Order::Change(Change::Route(verb, spec))) => {
                    let gateway = spec.hops.as_slice().first().and_then(|hop| hop.gateway);
                    format!("{} {} {gateway:?}", verb.name(), spec.prefix)
                }
                Ok(Order::Change(Change::Neighbour(verb, spec))) => {
                    format!("neigh {} {} {:?}", verb.name(), spec.ip, spec.link)
                }
                Ok(Order::Command(command)) => {
                    let text = format!("{:?}", command.1);
                    text.split(['(', ' ']).next().unwrap_or_default().to_owned()
                }
                Ok(order) => format!("{order:?}"),
            })
            .collect()
    }

    #[test]
    fn each_choice_does_what_it_says() {
        assert_eq!(
            say(&["1", "122.1.1.1/32 10.1.1.1 Ethernet1"]),
            ["? <destination/mask> <gateway> <oif>: ", "add 122.1.1.1/32 Some(10.1.1.1)"]
        );
        assert_eq!(say(&["2", "10/8 - eth0"])[1], "change 10.0.0.0/8 None");
        assert_eq!(say(&["3", "10/8"]), ["? <destination/mask>: ", "del 10.0.0.0/8 None"]);
        assert_eq!(say(&["4", "7", "9"]), ["Routes", "Neighbours", "Clients"]);
        assert_eq!(say(&["8"]), ["Flush"]);
        assert_eq!(say(&["5", "02:00:00:00:00:01 10.1.1.1"])[1], "neigh replace 10.1.1.1 None");
        assert_eq!(
            say(&["5", "02:00:00:00:00:01 10.1.1.1 eth0"])[1],
            "neigh replace 10.1.1.1 Some(Name(\"eth0\"))"
        );
        assert_eq!(say(&["6", "10.1.1.1"])[1], "neigh del 10.1.1.1 None");
        assert_eq!(say(&["6", "10.1.1.1 eth0"])[1], "neigh del 10.1.1.1 Some(Name(\"eth0\"))");
        // A row as the table shows it.
        assert_eq!(
            say(&["6", "02:00:00:00:00:01 10.1.1.1 eth0"]),
            ["? [mac] <ip> [oif]: ", "neigh del 10.1.1.1 Some(Name(\"eth0\"))"]
        );
        assert_eq!(say(&["6", "02:00:00:00:00:01 10.1.1.1 -"])[1], "neigh del 10.1.1.1 None");
    }

    #[test]
    fn a_short_line_is_asked_for_field_by_field() {
        assert_eq!(
            say(&["1", "10.0.0.0/8", "10.1.1.1", "eth0"]),
            [
                "? <destination/mask> <gateway> <oif>: ",
                "? gateway ('-': none): ",
                "? oif ('-': none): ",
                "add 10.0.0.0/8 Some(10.1.1.1)"
            ]
        );
        assert_eq!(say(&["1", "10.0.0.0/8 10.1.1.1", "eth0"])[2], "add 10.0.0.0/8 Some(10.1.1.1)");
        assert_eq!(
            say(&["5", "02:00:00:00:00:01", "10.1.1.1", ""]),
            [
                "? <mac> <ip> [oif]: ",
                "? ip: ",
                "? oif ('-': none): ",
                "neigh replace 10.1.1.1 None"
            ]
        );
    }

    #[test]
    fn a_wrong_entry_is_one_line_and_the_menu_again() {
        for (lines, expected) in [
            (&["11"][..], "! menu: 11: no such choice; 0 to 9 would be right"),
            (
                &["1", "10.0.0.1/8 10.1.1.1 eth0"],
                "! destination/mask: 10.0.0.1/8: host bits are set; 10.0.0.0/8 would be right",
            ),
            (
                &["1", "10.0.0.1/8"],
                "! destination/mask: 10.0.0.1/8: host bits are set; 10.0.0.0/8 would be right",
            ),
            (
                &["1", "10/8", "10.1.1.1", "eth/0"],
                "! oif: eth/0: '/' can't stand in an interface name; a name without slash, colon and blank would be right",
            ),
            (
                &["1", "10/8 10.1.1.1 eth0 x"],
                "! route: x: nothing more is expected here; a line that ends here would be right",
            ),
            (
                &["1", ""],
                "! destination/mask: nothing was entered; <destination/mask> <gateway> <oif> would be right",
            ),
            (&["3", "x"], "! destination/mask: x: "),
            (&["5", "10.1.1.1 02:00:00:00:00:01"], "! mac: 10.1.1.1: "),
            (&["6", "x"], "! ip: x: not an IP address; "),
            (&["6", "02:00:00:00:00:01"], "! ip: end of line: "),
            (
                &["6", "10.1.1.1 eth0 x"],
                "! neighbour: x: nothing more is expected here; a line that ends here would be right",
            ),
            (&["route frob"], "! "),
            (&["frobnicate"], "! "),
        ] {
            let said = say(lines);
            let last = said.last().unwrap();
            assert!(last.starts_with(expected), "{lines:?}: {last}");
            assert!(!last.contains('\n'));
            // And the menu takes a choice again.
            let again = say(&[lines, &["4"]].concat());
            assert_eq!(again.last().unwrap(), "Routes");
        }
    }

    #[test]
    fn the_end_is_asked_for_once() {
        assert_eq!(say(&["0", "y"]), ["? stop rtmd? y/n ", "Quit"]);
        assert_eq!(say(&["0", "n", "4"]), ["? stop rtmd? y/n ", "menu", "Routes"]);
        assert_eq!(say(&["0", "what", "y"])[1..], ["? stop rtmd? y/n ", "Quit"]);
    }

    #[test]
    fn a_prompt_takes_the_grammar_too() {
        assert_eq!(
            say(&["route add 10/8 dev eth0", "", "# nothing", "client list", "-6 route show"]),
            ["Change", "menu", "menu", "ClientList", "RouteShow"]
        );
    }
}
