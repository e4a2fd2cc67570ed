//! Neighbours: what of their changes becomes a record.
//!
//! A busy neighbour goes from REACHABLE to STALE to DELAY and back all day
//! long, and nobody who looks it up cares. While its MAC stays the same, such
//! changes are joined: one record a second at most, with the newest state. Into
//! and out of INCOMPLETE and FAILED, and whenever the MAC or a flag changes, it
//! is told at once.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use rtm_model::{Change, NeighbourSpec, NeighbourValue, NudState, Verb};
use rtm_tables::{Millis, SourceId, Stamp};

use crate::core::Core;

/// Within this, changes of state are joined.
const JOINED_MS: Millis = 1000;

/// A neighbour's address and link.
pub(super) type Key = (IpAddr, u32);

/// What is told later, and since when that is known.
struct Waiting {
    spec: NeighbourSpec,
    since: Option<Stamp>,
}

/// Whose state changed lately.
#[derive(Default)]
pub(super) struct Joined {
    /// Until when it is quiet, and what it has to say then.
    recent: HashMap<Key, (Millis, Option<Waiting>)>,
    /// In the order of these times: all wait equally long.
    order: VecDeque<(Millis, Key)>,
    /// The newest listing of all neighbours.
    listing: Option<Stamp>,
    /// Changes that a later one replaced.
    pub(super) joined: u64,
}

/// Does everybody want to know of this at once?
fn is_news(old: &NeighbourValue, new: &NeighbourSpec) -> bool {
    let matters = |state: NudState| state == NudState::INCOMPLETE || state == NudState::FAILED;
    let state = new.state.unwrap_or_default();
    old.mac != new.mac
        || old.flags != new.flags
        || old.protocol != new.protocol
        || matters(old.state) != matters(state)
        || (matters(state) && old.state != state)
}

impl Joined {
    /// All neighbours are listed.
    pub(super) fn begin(&mut self, listing: Stamp) {
        self.listing = Some(listing);
    }

    /// They were: who was heard of last before that is gone, and has nothing to say.
    pub(super) fn end(&mut self, since: Stamp) {
        for (_, waiting) in self.recent.values_mut() {
            if waiting.as_ref().is_some_and(|waiting| waiting.since < Some(since)) {
                *waiting = None;
            }
        }
    }

    /// A neighbour is now so. True: something changed at once.
    pub(super) fn set(
        &mut self,
        core: &mut Core,
        source: SourceId,
        key: Key,
        spec: NeighbourSpec,
    ) -> bool {
        let old = core.table.own_neighbour(source, key.0, key.1);
        let waits = self.recent.get(&key).is_some_and(|(until, _)| *until > core.now);
        let same = old.is_some_and(|old| {
            !is_news(&old, &spec) && old.state == spec.state.unwrap_or_default()
        });
        if let Some((_, waiting)) = self.recent.get_mut(&key) {
            self.joined += u64::from(waiting.is_some());
            *waiting = None;
        }
        if let Some(old) = old.filter(|old| !same && waits && !is_news(old, &spec)) {
            // As it is shown until then, it is there: a listing mustn't miss it.
            let shown = NeighbourSpec { state: Some(old.state), ..spec.clone() };
            if let Some((_, waiting)) = self.recent.get_mut(&key) {
                *waiting = Some(Waiting { spec, since: self.listing });
            }
            return apply(core, source, shown);
        }
        if !same {
            self.quiet(core.now, key);
        }
        apply(core, source, spec)
    }

    /// A neighbour is gone. True: it was there.
    pub(super) fn remove(&mut self, core: &mut Core, source: SourceId, key: Key) -> bool {
        if let Some((_, waiting)) = self.recent.get_mut(&key) {
            *waiting = None;
        }
        let spec = NeighbourSpec {
            ip: key.0,
            link: Some(rtm_model::LinkRef::Ifindex(key.1)),
            mac: None,
            state: None,
            flags: 0,
            protocol: 0,
        };
        core.apply(source, &Change::Neighbour(Verb::Delete, spec)).is_ok()
    }

    fn quiet(&mut self, now: Millis, key: Key) {
        let until = now + JOINED_MS;
        self.recent.insert(key, (until, None));
        self.order.push_back((until, key));
    }

    /// When somebody has something to say.
    pub(super) fn poll_timeout(&self) -> Option<Millis> {
        self.order.front().map(|(until, _)| *until)
    }

    /// Says what is due; at most `count` of them.
    pub(super) fn handle_timeout(&mut self, core: &mut Core, source: SourceId, count: usize) {
        for _ in 0..count {
            let Some(&(until, key)) = self.order.front() else { return };
            if until > core.now {
                return;
            }
            self.order.pop_front();
            match self.recent.get_mut(&key) {
                // It was told at once meanwhile, and is quiet anew.
                Some((later, _)) if *later > until => {}
                Some((_, waiting)) => {
                    let waiting = waiting.take();
                    self.recent.remove(&key);
                    // It may have gone with its link, or in a flush.
                    let is_there = core.table.own_neighbour(source, key.0, key.1).is_some();
                    if let Some(Waiting { spec, .. }) = waiting.filter(|_| is_there) {
                        self.quiet(core.now, key);
                        apply(core, source, spec);
                    }
                }
                None => {}
            }
        }
    }
}

fn apply(core: &mut Core, source: SourceId, spec: NeighbourSpec) -> bool {
    let result = core.apply(source, &Change::Neighbour(Verb::Replace, spec));
    matches!(result, Ok(rtm_tables::Applied::Changed(_)))
}
