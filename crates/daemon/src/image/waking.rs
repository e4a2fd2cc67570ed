//! When those are woken who sleep until the ring has something new.
//!
//! A turn that brings something ends with one wake-up of all, at once. In a burst,
//! when more has come already than the turn took, a turn takes a millisecond, and waking
//! hundreds would take a third of it, as would their going to sleep again. So the
//! next wake-up waits the longer the more were woken by the last; but it never waits
//! once nothing more has come.

use std::time::{Duration, Instant};

/// In a burst: so long until the next wake-up for each that the last one woke. One takes
/// some 2 µs, so all together take at most a twentieth of the time.
const GAP: Duration = Duration::from_micros(40);
/// But no longer, however many sleep (anybody local can let thousands): the ring holds ten
/// times what comes meanwhile.
const GAP_MAX: Duration = Duration::from_millis(10);

/// What is owed to those who sleep.
#[derive(Debug, Default)]
pub(super) struct Waking {
    /// Something can be read that they weren't woken for.
    is_owed: bool,
    /// In a burst, not before this.
    from: Option<Instant>,
}

impl Waking {
    /// Something new can be read.
    pub(super) fn owe(&mut self) {
        self.is_owed = true;
    }

    pub(super) fn is_owed(&self) -> bool {
        self.is_owed
    }

    /// Now? `goes_on`: another turn follows at once.
    pub(super) fn is_due(&self, now: Instant, goes_on: impl FnOnce() -> bool) -> bool {
        self.is_owed && (self.from.is_none_or(|from| from <= now) || !goes_on())
    }

    /// So many were woken.
    pub(super) fn woke(&mut self, now: Instant, count: usize) {
        let gap = GAP.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)).min(GAP_MAX);
        (self.is_owed, self.from) = (false, now.checked_add(gap));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_change_wakes_at_once_and_a_burst_seldom() {
        let mut waking = Waking::default();
        let begin = Instant::now();
        assert!(!waking.is_due(begin, || false), "nothing is new");
        waking.owe();
        assert!(waking.is_due(begin, || true), "the first one, whatever follows");
        waking.woke(begin, 64);
        assert!(!waking.is_owed());
        waking.owe();
        let soon = begin + GAP;
        assert!(!waking.is_due(soon, || true));
        assert!(waking.is_due(soon, || false), "nothing more has come");
        assert!(waking.is_due(begin + 64 * GAP, || panic!("it isn't asked")));
        // Thousands of sleepers put it off no longer than allowed.
        waking.woke(begin, usize::MAX);
        waking.owe();
        assert!(!waking.is_due(begin + GAP_MAX / 2, || true));
        assert!(waking.is_due(begin + GAP_MAX, || true));
        // Nobody slept: all are awake, or there is nobody.
        waking.woke(begin, 0);
        waking.owe();
        assert!(waking.is_due(begin, || true));
    }
}
