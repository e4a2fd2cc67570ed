//! Names for numbers: protocols, scopes, tables, type-of-service values,
//! realms, and the metrics of `RTAX_`.
//!
//! The built-in names are those of iproute2's files (`rt_protos`, `rt_scopes`,
//! `rt_tables`, `rt_dsfield`), and `rtm` for protocol 77. Whoever may do I/O
//! reads `/etc/iproute2/*` and gives the content to the `read_…` methods here;
//! what such a file says goes before what is built in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

/// `rtm_protocol` of routes that rtm itself puts into a kernel's table.
pub const PROTOCOL_RTM: u8 = 77;
/// `RTPROT_BOOT`: what `ip route add` writes, and what it leaves out when it
/// prints.
pub const PROTOCOL_BOOT: u8 = 3;
/// `RTPROT_STATIC`: an administrator's.
pub const PROTOCOL_STATIC: u8 = 4;
/// `RT_SCOPE_UNIVERSE`.
pub const SCOPE_GLOBAL: u8 = 0;
/// `RT_SCOPE_LINK`.
pub const SCOPE_LINK: u8 = 253;
/// `RT_SCOPE_HOST`.
pub const SCOPE_HOST: u8 = 254;
/// `RT_TABLE_LOCAL`.
pub const TABLE_LOCAL: u32 = 255;

const PROTOCOLS: [(u8, &str); 23] = [
    (0, "unspec"),
    (1, "redirect"),
    (2, "kernel"),
    (3, "boot"),
    (4, "static"),
    (8, "gated"),
    (9, "ra"),
    (10, "mrt"),
    (11, "zebra"),
    (12, "bird"),
    (13, "dnrouted"),
    (14, "xorp"),
    (15, "ntk"),
    (16, "dhcp"),
    (18, "keepalived"),
    (42, "babel"),
    (PROTOCOL_RTM, "rtm"),
    (99, "openr"),
    (186, "bgp"),
    (187, "isis"),
    (188, "ospf"),
    (189, "rip"),
    (192, "eigrp"),
];

const SCOPES: [(u8, &str); 5] =
    [(0, "global"), (255, "nowhere"), (254, "host"), (253, "link"), (200, "site")];

const TABLES: [(u32, &str); 4] = [(255, "local"), (254, "main"), (253, "default"), (0, "unspec")];

const DSFIELDS: [(u8, &str); 21] = [
    (0x00, "default"),
    (0x28, "AF11"),
    (0x30, "AF12"),
    (0x38, "AF13"),
    (0x48, "AF21"),
    (0x50, "AF22"),
    (0x58, "AF23"),
    (0x68, "AF31"),
    (0x70, "AF32"),
    (0x78, "AF33"),
    (0x88, "AF41"),
    (0x90, "AF42"),
    (0x98, "AF43"),
    (0x20, "CS1"),
    (0x40, "CS2"),
    (0x60, "CS3"),
    (0x80, "CS4"),
    (0xa0, "CS5"),
    (0xc0, "CS6"),
    (0xe0, "CS7"),
    (0xb8, "EF"),
];

/// `RTAX_LOCK`: a mask of the metrics that must not be learnt anew.
pub const RTAX_LOCK: u16 = 1;
/// `RTAX_MTU`.
pub const RTAX_MTU: u16 = 2;
/// `RTAX_WINDOW`.
pub const RTAX_WINDOW: u16 = 3;
/// `RTAX_RTT`, in eighths of a millisecond.
pub const RTAX_RTT: u16 = 4;
/// `RTAX_RTTVAR`, in quarters of a millisecond.
pub const RTAX_RTTVAR: u16 = 5;
/// `RTAX_HOPLIMIT`; 0xffffffff: the link's own.
pub const RTAX_HOPLIMIT: u16 = 10;
/// `RTAX_FEATURES`: bit 0 ECN, bit 4 microsecond timestamps.
pub const RTAX_FEATURES: u16 = 12;
/// `RTAX_RTO_MIN`, in milliseconds.
pub const RTAX_RTO_MIN: u16 = 13;
/// `RTAX_CC_ALGO`: a name, not a number.
pub const RTAX_CC_ALGO: u16 = 16;

/// The names of the metrics in `ip`, at the index of their `RTAX_` number.
/// Number 0 doesn't exist, 1 ([`RTAX_LOCK`]) is a mask and has no word.
pub const METRICS: [&str; 18] = [
    "",
    "",
    "mtu",
    "window",
    "rtt",
    "rttvar",
    "ssthresh",
    "cwnd",
    "advmss",
    "reordering",
    "hoplimit",
    "initcwnd",
    "features",
    "rto_min",
    "initrwnd",
    "quickack",
    "congctl",
    "fastopen_no_cookie",
];

/// A line of an iproute2 name file that can't be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamesError {
    /// The line, counted from 1.
    pub line: usize,
    /// What stands there.
    pub text: String,
}

impl fmt::Display for NamesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}: {}: not a number and a name; like 186 bgp",
            self.line,
            self.text.escape_debug()
        )
    }
}

impl std::error::Error for NamesError {}

/// Names of up to 256 numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Bytes(Vec<Option<Cow<'static, str>>>);

impl Bytes {
    fn new(names: &[(u8, &'static str)]) -> Bytes {
        let mut table = vec![None; 256];
        for &(number, name) in names {
            table[usize::from(number)] = Some(Cow::Borrowed(name));
        }
        Bytes(table)
    }

    fn name(&self, number: u8) -> Option<&str> {
        self.0[usize::from(number)].as_deref()
    }

    fn number(&self, name: &str) -> Option<u8> {
        let at = self.0.iter().position(|have| have.as_deref() == Some(name))?;
        u8::try_from(at).ok()
    }

    fn read(&mut self, content: &str) -> Result<(), NamesError> {
        for entry in entries(content) {
            let (number, name) = entry?;
            // As iproute2: what doesn't fit is left out, not an error.
            if let Ok(number) = u8::try_from(number) {
                self.0[usize::from(number)] = Some(Cow::Owned(name.to_owned()));
            }
        }
        Ok(())
    }
}

/// The names in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Names {
    protocols: Bytes,
    scopes: Bytes,
    dsfields: Bytes,
    tables: BTreeMap<u32, Cow<'static, str>>,
    realms: BTreeMap<u32, Cow<'static, str>>,
}

impl Default for Names {
    fn default() -> Names {
        Names {
            protocols: Bytes::new(&PROTOCOLS),
            scopes: Bytes::new(&SCOPES),
            dsfields: Bytes::new(&DSFIELDS),
            tables: TABLES.iter().map(|&(id, name)| (id, Cow::Borrowed(name))).collect(),
            realms: BTreeMap::new(),
        }
    }
}

impl Names {
    /// The built-in names, shared.
    pub fn builtin() -> &'static Names {
        static BUILTIN: OnceLock<Names> = OnceLock::new();
        BUILTIN.get_or_init(Names::default)
    }

    /// Takes the content of `rt_protos` (or of a file in `rt_protos.d`).
    pub fn read_protocols(&mut self, content: &str) -> Result<(), NamesError> {
        self.protocols.read(content)
    }

    /// Takes the content of `rt_scopes`.
    pub fn read_scopes(&mut self, content: &str) -> Result<(), NamesError> {
        self.scopes.read(content)
    }

    /// Takes the content of `rt_dsfield`.
    pub fn read_dsfields(&mut self, content: &str) -> Result<(), NamesError> {
        self.dsfields.read(content)
    }

    /// Takes the content of `rt_tables` (or of a file in `rt_tables.d`).
    pub fn read_tables(&mut self, content: &str) -> Result<(), NamesError> {
        read_map(&mut self.tables, content)
    }

    /// Takes the content of `rt_realms`.
    pub fn read_realms(&mut self, content: &str) -> Result<(), NamesError> {
        read_map(&mut self.realms, content)
    }

    /// The name of an `rtm_protocol`.
    pub fn protocol_name(&self, number: u8) -> Option<&str> {
        self.protocols.name(number)
    }

    /// The `rtm_protocol` of a name.
    pub fn protocol(&self, name: &str) -> Option<u8> {
        self.protocols.number(name)
    }

    /// The name of an `rtm_scope`.
    pub fn scope_name(&self, number: u8) -> Option<&str> {
        self.scopes.name(number)
    }

    /// The `rtm_scope` of a name.
    pub fn scope(&self, name: &str) -> Option<u8> {
        self.scopes.number(name)
    }

    /// The name of a type of service.
    pub fn dsfield_name(&self, number: u8) -> Option<&str> {
        self.dsfields.name(number)
    }

    /// The type of service of a name.
    pub fn dsfield(&self, name: &str) -> Option<u8> {
        self.dsfields.number(name)
    }

    /// The name of a table.
    pub fn table_name(&self, id: u32) -> Option<&str> {
        self.tables.get(&id).map(AsRef::as_ref)
    }

    /// The table of a name.
    pub fn table(&self, name: &str) -> Option<u32> {
        self.tables.iter().find(|(_, have)| *have == name).map(|(&id, _)| id)
    }

    /// The name of a realm.
    pub fn realm_name(&self, id: u16) -> Option<&str> {
        self.realms.get(&u32::from(id)).map(AsRef::as_ref)
    }

    /// The realm of a name.
    pub fn realm(&self, name: &str) -> Option<u16> {
        let (&id, _) = self.realms.iter().find(|(_, have)| *have == name)?;
        u16::try_from(id).ok()
    }

    /// Every protocol that has a name, ascending: for completion.
    pub fn protocols(&self) -> impl Iterator<Item = (u8, &str)> {
        (0..=255_u8).filter_map(|number| Some((number, self.protocols.name(number)?)))
    }

    /// Every table that has a name, ascending: for completion.
    pub fn tables(&self) -> impl Iterator<Item = (u32, &str)> {
        self.tables.iter().map(|(&id, name)| (id, name.as_ref()))
    }
}

fn read_map(map: &mut BTreeMap<u32, Cow<'static, str>>, content: &str) -> Result<(), NamesError> {
    for entry in entries(content) {
        let (number, name) = entry?;
        map.insert(number, Cow::Owned(name.to_owned()));
    }
    Ok(())
}

/// The lines of a name file: a decimal or `0x` number and a name. Comments and
/// blank lines are passed over; what follows the name is, too.
fn entries(content: &str) -> impl Iterator<Item = Result<(u32, &str), NamesError>> {
    content.lines().enumerate().filter_map(|(index, line)| {
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            return None;
        }
        let mut words = text.split_ascii_whitespace();
        let number = words.next().and_then(|word| match word.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => word.parse().ok(),
        });
        Some(match (number, words.next()) {
            (Some(number), Some(name)) => Ok((number, name)),
            _ => Err(NamesError { line: index + 1, text: text.to_owned() }),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_names_go_both_ways() {
        let names = Names::builtin();
        for (number, name) in PROTOCOLS {
            assert_eq!(names.protocol_name(number), Some(name));
            assert_eq!(names.protocol(name), Some(number));
        }
        for (number, name) in SCOPES {
            assert_eq!(names.scope_name(number), Some(name));
            assert_eq!(names.scope(name), Some(number));
        }
        for (number, name) in DSFIELDS {
            assert_eq!(names.dsfield_name(number), Some(name));
            assert_eq!(names.dsfield(name), Some(number));
        }
        for (number, name) in TABLES {
            assert_eq!(names.table_name(number), Some(name));
            assert_eq!(names.table(name), Some(number));
        }
        assert_eq!(names.protocol_name(77), Some("rtm"));
        assert_eq!(names.protocol_name(200), None);
        assert_eq!(names.table("blue"), None);
    }

    #[test]
    fn a_file_goes_before_what_is_built_in() {
        let mut names = Names::default();
        names
            .read_protocols("# comment\n\n 0xba  mybgp # BGP\n201\ttest more\n300 too-large\n")
            .unwrap();
        assert_eq!(names.protocol_name(186), Some("mybgp"));
        assert_eq!(names.protocol("bgp"), None);
        assert_eq!(names.protocol("test"), Some(201));
        assert_eq!(names.protocol("too-large"), None);
        names.read_tables("100 blue\n4294967295 last\n").unwrap();
        assert_eq!(names.table("blue"), Some(100));
        assert_eq!(names.table_name(u32::MAX), Some("last"));
        names.read_realms("7 cosmos").unwrap();
        assert_eq!(names.realm("cosmos"), Some(7));
    }

    #[test]
    fn a_bad_line_is_named() {
        for (content, line) in [("0 a\nb", 2), ("#\n\n12", 3), ("x y", 1), ("-1 minus", 1)] {
            let error = Names::default().read_tables(content).unwrap_err();
            assert_eq!(error.line, line, "{content:?}");
        }
        assert_eq!(
            Names::default().read_protocols("bgp\u{1b}").unwrap_err().to_string(),
            "line 1: bgp\\u{1b}: not a number and a name; like 186 bgp"
        );
    }
}
