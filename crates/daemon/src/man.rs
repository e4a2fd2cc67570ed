//! rtmd(8): the page is made of the command line's own texts, and kept in `man/`;
//! a test finds it out of date.

use clap::CommandFactory;
use clap_mangen::Man;

use crate::args::Args;

/// What the command line doesn't say.
const MORE: &str = "\
.SH CONSOLE
On a terminal a numbered menu inserts, updates, deletes and shows routes and neighbours, flushes
both tables, lists clients, and stops the daemon. A prompt also takes the commands of
.BR rtm (1),
like
.BR \"route add 10.0.0.0/8 via 192.0.2.1 dev eth0\" .
End of input closes the menu, not the daemon.
.SH SIGNALS
.TP
.BR SIGTERM \", \" SIGINT
Clients get what they lack, for at most a second, and a goodbye; then the daemon ends. A second
signal ends it at once.
.TP
.B SIGHUP
The configuration is read again; what then needs a restart is said in the log.
.SH FILES
.TP
.I /etc/rtm/rtmd.toml, /etc/rtm/rtmd.d/*.toml
The configuration, in this order; a later file goes over an earlier one, the command line over all.
The file rtmd.toml that comes with rtmd has every key with its default and what it means.
.TP
.I rtm.sock
In the runtime directory: where clients connect.
.TP
.I classic.sock
Where programs connect that take fixed C structures: rtm_classic.h.
.TP
.I rtmd.lock
Held by the daemon that runs there, of which there is at most one.
.TP
.I rtmd.pid
Its process id.
.SH ENVIRONMENT
.TP
.B RTM_RUNTIME_DIR
The runtime directory, as \\-\\-runtime\\-dir.
.TP
.B RUNTIME_DIRECTORY, XDG_RUNTIME_DIR
Where it is otherwise.
.SH EXIT STATUS
0 stopped as it was told to; 1 usage or configuration; 2 it could not start.
.SH EXAMPLE
.B rtmd \\-\\-load routes.txt.gz \\-\\-listen tcp://127.0.0.1:2600
.SH SEE ALSO
.BR rtm (1),
.BR ip (8)
";

fn page() -> String {
    let command = Args::command().disable_help_subcommand(true);
    let man = Man::new(command).section("8").manual("System Administration").source("rtm");
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    page.extend_from_slice(b".SH NAME\nrtmd \\- the routing table daemon\n");
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    let mut page = String::from_utf8(page).unwrap();
    page.push_str(MORE);
    page
}

#[test]
fn the_manual_page_is_that_of_the_command_line() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/man/rtmd.8");
    let page = page();
    if std::env::var_os("RTM_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(path, &page).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap();
    assert_eq!(kept, page, "`RTM_BLESS=1 cargo test -p rtm-daemon manual` makes it anew");
}
