//! When to try again: ever longer pauses, with jitter.
//!
//! A thousand clients of one daemon lose it in the same moment. Were they to
//! come back in step, each attempt would be a burst; so every pause is drawn
//! at random between half of the present bound and the bound.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The first bound.
pub(crate) const FIRST: Duration = Duration::from_millis(50);

/// The last bound: a daemon that is back is noticed within this.
pub(crate) const LAST: Duration = Duration::from_secs(5);

/// Pauses between attempts to connect.
#[derive(Clone, Debug)]
pub struct Backoff {
    bound: Duration,
    random: RandomState,
    drawn: u64,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::new()
    }
}

impl Backoff {
    /// Starts with the first bound.
    pub fn new() -> Backoff {
        Backoff { bound: FIRST, random: RandomState::new(), drawn: 0 }
    }

    /// An attempt failed: how long to wait before the next.
    pub fn pause(&mut self) -> Duration {
        // RandomState is keyed at random once a thread; hashing a counter with
        // it is as random as jitter needs to be.
        self.drawn += 1;
        let half = self.bound / 2;
        let share = self.random.hash_one(self.drawn) % (half.as_nanos() as u64 + 1);
        self.bound = (self.bound * 2).min(LAST);
        half + Duration::from_nanos(share)
    }

    /// An attempt succeeded.
    pub fn reset(&mut self) {
        self.bound = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_bound_and_differ() {
        let mut backoff = Backoff::new();
        let mut bound = FIRST;
        for _ in 0..20 {
            let pause = backoff.pause();
            assert!(pause >= bound / 2 && pause <= bound, "{pause:?} of {bound:?}");
            bound = (bound * 2).min(LAST);
        }
        assert_eq!(bound, LAST);
        let pauses: Vec<Duration> = (0..8).map(|_| backoff.pause()).collect();
        assert!(pauses.windows(2).any(|pair| pair[0] != pair[1]), "{pauses:?}");
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
    }
}
