//! Random changes and happenings, the same for the same seed.

use rtm_model::{
    Change, HopFlags, HopSpec, Hops, LinkRef, Mac, NeighbourSpec, RouteSpec, RouteType, Verb,
};

use super::{Rng, World};

impl World {
    /// A change of any kind; many are refused.
    pub fn random_change(&mut self) -> Change {
        let rng = &mut self.rng;
        let name = |n: usize| LinkRef::Name(format!("eth{n}").parse().unwrap());
        let hop = |rng: &mut Rng, six: bool| {
            let gateway = if six {
                format!("2001:db8::{}", 1 + rng.below(5))
            } else {
                format!("10.255.0.{}", 1 + rng.below(5))
            };
            HopSpec {
                gateway: gateway.parse().ok(),
                link: Some(name(rng.below(4))),
                weight: 1 + rng.below(3) as u16,
                flags: HopFlags::default(),
            }
        };
        match rng.below(20) {
            0..=11 => {
                let six = rng.one_in(4);
                let n = rng.below(40);
                let text = match (six, rng.below(3)) {
                    (false, 0) => format!("10.{n}.0.0/16"),
                    (false, _) => format!("10.{}.{n}.0/24", n % 7),
                    (true, _) => format!("2001:db8:{n:x}::/48"),
                };
                let mut spec = RouteSpec::new(text.parse().unwrap());
                spec.table = [254, 254, 7][rng.below(3)];
                spec.protocol = Some([4, 186][rng.below(2)]);
                if rng.one_in(4) {
                    spec.metric = Some(10 + rng.below(2) as u32);
                }
                let verb = [Verb::Replace, Verb::Replace, Verb::Append, Verb::Delete][rng.below(4)];
                match rng.below(8) {
                    0 => spec.kind = Some(RouteType::Blackhole),
                    1 => spec.hops = Hops::Many(vec![hop(rng, six), hop(rng, six)]),
                    2 => spec.hops = Hops::Named(1 + rng.below(3) as u32),
                    _ => spec.hops = Hops::One(hop(rng, six)),
                }
                if verb == Verb::Delete {
                    spec.hops = Hops::None;
                    spec.kind = None;
                    spec.protocol = None;
                }
                Change::Route(verb, spec)
            }
            12..=15 => {
                let n = rng.below(12);
                let ip =
                    if rng.one_in(3) { format!("2001:db8::{n:x}") } else { format!("10.1.0.{n}") };
                let spec = NeighbourSpec {
                    ip: ip.parse().unwrap(),
                    link: Some(name(rng.below(5))),
                    mac: Some(Mac([2, 0, 0, 0, 0, rng.below(4) as u8])),
                    state: None,
                    flags: 0,
                    protocol: 0,
                };
                let verb = if rng.one_in(3) { Verb::Delete } else { Verb::Replace };
                Change::Neighbour(verb, spec)
            }
            16..=17 => {
                let hops = (0..1 + rng.below(3)).map(|_| hop(rng, false)).collect();
                let spec = rtm_model::GroupSpec { nhid: 1 + rng.below(3) as u32, hops };
                let verb = if rng.one_in(5) { Verb::Delete } else { Verb::Replace };
                Change::Group(verb, spec)
            }
            _ => {
                let n = rng.below(6);
                let spec = rtm_model::LinkSpec {
                    ifindex: 1 + rng.below(5) as u32,
                    name: format!("eth{n}").parse().unwrap(),
                };
                let verb = if rng.one_in(5) { Verb::Delete } else { Verb::Replace };
                Change::Link(verb, spec)
            }
        }
    }

    /// One random thing that happens to the tables.
    pub fn random_happening(&mut self) {
        let source = if self.rng.one_in(2) { self.admin } else { self.kernel };
        match self.rng.below(60) {
            0 if self.flushes => {
                let (routes, neighbours) = (self.rng.one_in(2), self.rng.one_in(2));
                if routes || neighbours {
                    self.flush(routes, neighbours);
                }
            }
            1..=6 => {
                let changes: Vec<Change> =
                    (0..1 + self.rng.below(12)).map(|_| self.random_change()).collect();
                self.hub.begin_turn(self.now);
                let mut transaction = self.table.transaction(source).unwrap();
                for change in &changes {
                    let _ = transaction.apply(change);
                }
                transaction.commit(&mut self.hub);
            }
            7 => {
                let changes: Vec<Change> =
                    (0..1 + self.rng.below(30)).map(|_| self.random_change()).collect();
                self.table.stage_begin(source).unwrap();
                for change in &changes {
                    let _ = self.table.stage(change);
                    if self.rng.one_in(10) {
                        self.turn();
                    }
                }
                let give_up = self.rng.one_in(4);
                self.end_stage(give_up);
            }
            _ => {
                let change = self.random_change();
                self.apply(source, &change);
            }
        }
    }
}
