//! Sources: who owns candidates, how far each is trusted, and what each still
//! has to confirm.
//!
//! Which of two sources wins a key is decided by (distance, class, name), in
//! that order: see [`SourceClass`]. The distance is that of the candidate,
//! which a feed may name itself and else comes from the source's
//! [`Distances`].

use std::fmt;
use std::net::IpAddr;

use super::Table;

/// A source's number while it is registered. Numbers of sources that are gone
/// come back for others.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SourceId(pub u16);

/// What a source is. Ordered as sources are at equal distance: admin, kernel,
/// FPM by address, files (by name).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum SourceClass {
    /// Console, socket, queue, FIFO, batch, and loads without `--source`.
    Admin,
    /// This host's kernel, by netlink.
    Kernel,
    /// A routing daemon that speaks FPM.
    Fpm(IpAddr),
    /// `route load --source NAME`.
    File,
}

/// A source's distances: one, and others for some protocols.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Distances {
    default: u8,
    /// (protocol, distance), ascending by protocol.
    by_protocol: Vec<(u8, u8)>,
}

impl Distances {
    /// The same distance for every protocol.
    pub fn all(distance: u8) -> Distances {
        Distances { default: distance, by_protocol: Vec::new() }
    }

    /// The defaults of a class, as the glossary has them.
    pub fn of(class: SourceClass) -> Distances {
        match class {
            SourceClass::Admin => Distances::all(1),
            SourceClass::Kernel => Distances::all(0),
            SourceClass::File => Distances::all(250),
            // rtm_protocol numbers (linux/rtnetlink.h, FRR lib/route_types):
            // redirect and kernel (FRR sends kernel and connected as 2), boot,
            // static, ra, dhcp; babel, bgp, isis, ospf, rip, eigrp; FRR's own
            // ripng (190), static (196), openfabric (197).
            SourceClass::Fpm(_) => Distances::all(150)
                .with(2, 0)
                .with(3, 1)
                .with(4, 1)
                .with(9, 1)
                .with(16, 1)
                .with(42, 100)
                .with(186, 20)
                .with(187, 115)
                .with(188, 110)
                .with(189, 120)
                .with(190, 120)
                .with(192, 90)
                .with(196, 1)
                .with(197, 115),
        }
    }

    /// These, with another distance for one protocol.
    #[must_use]
    pub fn with(mut self, protocol: u8, distance: u8) -> Distances {
        match self.by_protocol.binary_search_by_key(&protocol, |rule| rule.0) {
            Ok(at) => self.by_protocol[at].1 = distance,
            Err(at) => self.by_protocol.insert(at, (protocol, distance)),
        }
        self
    }

    /// These, with another distance for protocols that have none of their own.
    #[must_use]
    pub fn with_default(mut self, distance: u8) -> Distances {
        self.default = distance;
        self
    }

    /// The distance of a route of `protocol`.
    pub fn distance(&self, protocol: u8) -> u8 {
        match self.by_protocol.binary_search_by_key(&protocol, |rule| rule.0) {
            Ok(at) => self.by_protocol[at].1,
            Err(_) => self.default,
        }
    }

    /// The distance where no protocol is named; also that of neighbours.
    pub fn default_distance(&self) -> u8 {
        self.default
    }
}

/// The `rtm_protocol` of a route for which its feed names none: static.
pub const PROTOCOL_STATIC: u8 = 4;

/// A source, as it is registered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceSpec {
    /// Its name: unique; `admin`, `kernel`, `fpm:ADDR`, or a file source's own.
    pub name: String,
    /// What it is.
    pub class: SourceClass,
    /// How far it is trusted.
    pub distances: Distances,
    /// The protocol of its routes that name none.
    pub protocol: u8,
}

impl SourceSpec {
    /// A source of this class and name with the class's distances.
    pub fn new(name: impl Into<String>, class: SourceClass) -> SourceSpec {
        SourceSpec {
            name: name.into(),
            class,
            distances: Distances::of(class),
            protocol: PROTOCOL_STATIC,
        }
    }

    /// The source `admin`.
    pub fn admin() -> SourceSpec {
        SourceSpec::new("admin", SourceClass::Admin)
    }

    /// The source `kernel`.
    pub fn kernel() -> SourceSpec {
        SourceSpec::new("kernel", SourceClass::Kernel)
    }

    /// The source `fpm:ADDR`.
    pub fn fpm(peer: IpAddr) -> SourceSpec {
        SourceSpec::new(format!("fpm:{peer}"), SourceClass::Fpm(peer))
    }

    /// A file source.
    pub fn file(name: impl Into<String>) -> SourceSpec {
        SourceSpec::new(name, SourceClass::File)
    }
}

/// All source numbers are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooManySources {
    /// `sources_max`.
    pub limit: usize,
}

impl fmt::Display for TooManySources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sources exist, which is the limit; empty one that is not needed", self.limit)
    }
}

impl std::error::Error for TooManySources {}

/// What is known of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceInfo<'a> {
    /// Its number.
    pub id: SourceId,
    /// As it was registered.
    pub spec: &'a SourceSpec,
    /// Its routes: candidates, whether they win or not.
    pub routes: usize,
    /// Those of its routes that win.
    pub winners: usize,
    /// Its neighbours.
    pub neighbours: usize,
    /// How often its content began to be offered anew.
    pub generation: u64,
    /// Between the Begin and the End of a generation?
    pub in_generation: bool,
    /// Routes and neighbours that are held from before the last Begin (or from
    /// before the source was lost) and not confirmed since.
    pub stale: usize,
    /// Was it dropped? It is gone for good when nothing of it is left.
    pub dropped: bool,
}

/// A source in the table.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) spec: SourceSpec,
    pub(super) generation: u64,
    pub(super) in_generation: bool,
    pub(super) dropped: bool,
    /// What was offered under an older stamp is stale.
    pub(super) fresh: u32,
    pub(super) routes: usize,
    pub(super) winners: usize,
    pub(super) neighbours: usize,
    pub(super) stale_routes: usize,
    pub(super) stale_neighbours: usize,
}

impl Source {
    fn new(spec: SourceSpec) -> Source {
        Source {
            spec,
            generation: 0,
            in_generation: false,
            dropped: false,
            fresh: 0,
            routes: 0,
            winners: 0,
            neighbours: 0,
            stale_routes: 0,
            stale_neighbours: 0,
        }
    }

    /// Everything it has is stale from here on: `stamp` is a new one.
    pub(super) fn set_fresh(&mut self, stamp: u32) {
        self.fresh = stamp;
        self.stale_routes = self.routes;
        self.stale_neighbours = self.neighbours;
    }

    fn is_empty(&self) -> bool {
        self.routes + self.neighbours == 0
    }
}

impl Table {
    /// Registers a source, or finds the one of this name and takes over the
    /// rest of `spec` (for what is offered from now on). A source that was
    /// dropped comes back: what it had is stale and on its way out.
    ///
    /// At `sources_max`, a file source that holds nothing gives way.
    pub fn source(&mut self, spec: SourceSpec) -> Result<SourceId, TooManySources> {
        let known =
            self.sources.iter().position(|s| s.as_ref().is_some_and(|s| s.spec.name == spec.name));
        if let Some(at) = known {
            if let Some(source) = &mut self.sources[at] {
                source.spec = spec;
                source.dropped = false;
            }
            return Ok(SourceId(at as u16));
        }
        let limit = self.limits.sources_max.min(usize::from(u16::MAX));
        let free = self.sources.iter().position(Option::is_none);
        let at = match free {
            Some(at) => at,
            None if self.sources.len() < limit => {
                self.sources.push(None);
                self.sources.len() - 1
            }
            None => {
                let gives_way = |at: &usize| {
                    let idle = self.sources[*at].as_ref().is_some_and(|source| {
                        source.spec.class == SourceClass::File && source.is_empty()
                    });
                    idle && self.is_unreferenced(SourceId(*at as u16))
                };
                let found = (0..self.sources.len()).find(gives_way);
                found.ok_or(TooManySources { limit })?
            }
        };
        self.sources[at] = Some(Source::new(spec));
        Ok(SourceId(at as u16))
    }

    /// Does nothing but candidates refer to it?
    fn is_unreferenced(&self, id: SourceId) -> bool {
        let named = self.shared.named.range((id, 0)..=(id, u32::MAX)).next().is_some();
        let hosts = self.shared.links.iter().any(|link| link.host.is_some_and(|h| h.0 == id));
        !named && !hosts && !self.sweeps.iter().any(|sweep| sweep.is_of(id))
    }

    /// The number of a dropped source is free when nothing of it is left.
    pub(super) fn release_source(&mut self, id: SourceId) {
        let entry = self.sources.get(usize::from(id.0)).and_then(Option::as_ref);
        if entry.is_some_and(|s| s.dropped && s.is_empty()) && self.is_unreferenced(id) {
            self.sources[usize::from(id.0)] = None;
        }
    }

    /// All sources, by number.
    pub fn sources(&self) -> impl Iterator<Item = SourceInfo<'_>> {
        self.sources.iter().enumerate().filter_map(|(at, source)| {
            let source = source.as_ref()?;
            Some(SourceInfo {
                id: SourceId(at as u16),
                spec: &source.spec,
                routes: source.routes,
                winners: source.winners,
                neighbours: source.neighbours,
                generation: source.generation,
                in_generation: source.in_generation,
                stale: source.stale_routes + source.stale_neighbours,
                dropped: source.dropped,
            })
        })
    }

    /// One source, as it was registered.
    pub fn source_spec(&self, id: SourceId) -> Option<&SourceSpec> {
        self.sources.get(usize::from(id.0))?.as_ref().map(|source| &source.spec)
    }
}
