//! How long turns took: a histogram with four buckets per doubling.
//!
//! Of constant size, and counting costs a few instructions: it runs always.

use std::time::Duration;

/// Buckets per doubling of the time.
const STEPS: u64 = 4;
/// Up to 2^34 ns, 17 s; what is longer counts there.
const BUCKETS: usize = 33 * STEPS as usize;

/// Counts of durations.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: [u64; BUCKETS],
    count: u64,
    sum: Duration,
    longest: Duration,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: [0; BUCKETS], count: 0, sum: Duration::ZERO, longest: Duration::ZERO }
    }
}

/// The bucket of a number of nanoseconds: its highest bit and the two below.
fn bucket(nanos: u64) -> usize {
    let nanos = nanos.max(STEPS);
    let octave = 63 - u64::from(nanos.leading_zeros());
    let step = (nanos >> (octave - 2)) & (STEPS - 1);
    (((octave - 2) * STEPS + step) as usize).min(BUCKETS - 1)
}

/// The first number of nanoseconds beyond a bucket.
fn end(bucket: usize) -> u64 {
    let (octave, step) = (bucket as u64 / STEPS + 2, bucket as u64 % STEPS);
    (STEPS + step + 1) << (octave - 2)
}

impl Histogram {
    /// Counts one.
    pub(crate) fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.count += 1;
        self.sum += duration;
        self.longest = self.longest.max(duration);
    }

    /// How many were counted.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// All together.
    pub(crate) fn sum(&self) -> Duration {
        self.sum
    }

    /// The longest.
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// The duration that `share` (0 to 1) of all don't exceed, to a quarter of
    /// an octave, rounded up.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Duration::from_nanos(end(index)).min(self.longest);
            }
        }
        self.longest
    }

    /// Per doubling that has any: its upper end, how many.
    pub(crate) fn octaves(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        self.counts.chunks(STEPS as usize).enumerate().filter_map(|(octave, counts)| {
            let count: u64 = counts.iter().sum();
            (count > 0).then(|| (Duration::from_nanos(8 << octave), count))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_hold_their_numbers() {
        let mut last = 0;
        for nanos in
            (4..4096_u64).chain((12..40).flat_map(|n| [1 << n, (1 << n) - 1, (1 << n) + 1]))
        {
            let bucket = bucket(nanos);
            if nanos < 4096 {
                assert!(bucket == last || bucket == last + 1, "{nanos}");
                last = bucket;
            }
            if bucket < BUCKETS - 1 {
                assert!(nanos < end(bucket), "{nanos}");
                assert!(bucket == 0 || nanos >= end(bucket - 1), "{nanos}");
            }
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_within_a_quarter_octave() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.99), Duration::ZERO);
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (share, micros) in [(0.5, 500), (0.99, 990), (1.0, 1000)] {
            let quantile = histogram.quantile(share);
            let exact = Duration::from_micros(micros);
            assert!(quantile >= exact && quantile <= exact * 5 / 4, "{share}: {quantile:?}");
        }
        assert_eq!(histogram.count(), 1000);
        assert_eq!(histogram.longest(), Duration::from_millis(1));
        assert_eq!(histogram.octaves().map(|(_, count)| count).sum::<u64>(), 1000);
    }
}
