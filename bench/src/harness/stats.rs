//! Medians and their intervals.
//!
//! A bench on a shared machine has outliers on one side only, so nothing here
//! assumes a shape: the interval of a median comes from order statistics. With
//! n independent samples the true median lies between the k-th smallest and
//! the k-th largest with probability 1 − 2·P(Binomial(n, ½) < k), whatever the
//! distribution.

use serde::{Deserialize, Serialize};

/// Coverage that an interval reaches if there are enough samples (six).
const COVERAGE_WANTED: f64 = 0.95;

/// A median and an interval that contains the true one with probability
/// [`coverage`](Median::coverage).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Median {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// 0.95 or a little more from six samples on; less below.
    pub(crate) coverage: f64,
    pub(crate) samples: usize,
}

impl Median {
    /// `None` for no samples.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        if samples.is_empty() {
            return None;
        }
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        let (rank, coverage) = interval_rank(n);
        Some(Self {
            median: (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0,
            low: sorted[rank - 1],
            high: sorted[n - rank],
            coverage,
            samples: n,
        })
    }
}

/// The value below which `share` of the samples lie (nearest rank); sorts.
pub(crate) fn quantile(samples: &mut [u64], share: f64) -> Option<u64> {
    if samples.is_empty() {
        return None;
    }
    samples.sort_unstable();
    let rank = (share * samples.len() as f64).ceil() as usize;
    Some(samples[rank.clamp(1, samples.len()) - 1])
}

/// The largest k whose interval (k-th smallest, k-th largest) still covers
/// [`COVERAGE_WANTED`], at least 1, and what it covers.
fn interval_rank(n: usize) -> (usize, f64) {
    let mut outside = 0.0; // P(Binomial(n, 1/2) < k)
    let mut term = 0.5f64.powi(n as i32); // P(Binomial(n, 1/2) = k - 1)
    let mut best = (1, 1.0 - 2.0 * term);
    for k in 1..=n.div_ceil(2) {
        outside += term;
        term *= (n - k + 1) as f64 / k as f64;
        let coverage = 1.0 - 2.0 * outside;
        if k > 1 && coverage < COVERAGE_WANTED {
            break;
        }
        best = (k, coverage.max(0.0));
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_the_binomial_tables() {
        for (n, rank, coverage) in [
            (1, 1, 0.0),
            (5, 1, 0.9375),
            (6, 1, 0.96875),
            (9, 2, 0.9609),
            (20, 6, 0.9586),
            (30, 10, 0.9572),
        ] {
            let (got, covers) = interval_rank(n);
            assert_eq!(got, rank, "n = {n}");
            assert!((covers - coverage).abs() < 1e-4, "n = {n}: {covers}");
        }
    }

    #[test]
    fn median_and_interval_are_order_statistics() {
        let samples: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        let median = Median::of(&samples).unwrap();
        assert_eq!((median.low, median.median, median.high), (6.0, 10.5, 15.0));
        assert_eq!(Median::of(&[3.0]).unwrap().median, 3.0);
        assert!(Median::of(&[]).is_none());
    }

    #[test]
    fn quantiles_take_the_nearest_rank() {
        let mut samples: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(quantile(&mut samples, 0.5), Some(50));
        assert_eq!(quantile(&mut samples, 0.99), Some(99));
        assert_eq!(quantile(&mut [7], 0.99), Some(7));
        assert_eq!(quantile(&mut [], 0.5), None);
    }
}
