//! Interleaved rounds: A B C, B C A, C A B, …
//!
//! In every round each contender is measured once, one right after the other,
//! so that whatever the machine does in that minute happens to all of them. The
//! order rotates, so that nobody always comes first. A ratio is taken within
//! one round, and what is published is the median of the ratios, not the
//! ratio of medians.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::machine;
use super::stats::Median;

/// What a figure counts, and whether more of it is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    DeliveriesPerSecond,
    RoutesPerSecond,
    LookupsPerSecond,
    ChangesPerSecond,
    Seconds,
    Microseconds,
    Nanoseconds,
}

impl Unit {
    /// How many times as good `ours` is as `theirs`.
    fn times(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Self::DeliveriesPerSecond
            | Self::RoutesPerSecond
            | Self::LookupsPerSecond
            | Self::ChangesPerSecond => ours / theirs,
            Self::Seconds | Self::Microseconds | Self::Nanoseconds => theirs / ours,
        }
    }

    /// A figure with its unit, as tables show it.
    pub(crate) fn show(self, value: f64) -> String {
        let count = |value: f64| match value {
            v if v >= 9.995e6 => format!("{:.1} M", v / 1e6),
            v if v >= 0.9995e6 => format!("{:.2} M", v / 1e6),
            v if v >= 1e3 => format!("{:.0} k", v / 1e3),
            v => format!("{v:.0}"),
        };
        match self {
            Self::DeliveriesPerSecond => format!("{}/s", count(value)),
            Self::RoutesPerSecond => format!("{} routes/s", count(value)),
            Self::LookupsPerSecond => format!("{} lookups/s", count(value)),
            Self::ChangesPerSecond => format!("{} changes/s", count(value)),
            Self::Seconds if value < 0.1 => format!("{:.1} ms", value * 1e3),
            Self::Seconds => format!("{value:.2} s"),
            Self::Microseconds => format!("{value:.1} µs"),
            Self::Nanoseconds => format!("{value:.0} ns"),
        }
    }
}

/// One sample of one contender.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// In the measure's unit.
    pub(crate) value: f64,
    /// Deliveries that were expected and not received. Only what was received
    /// is in `value`.
    pub(crate) lost: u64,
}

/// One side of a comparison: everything it needs stands ready when `sample` is
/// called, and goes away when it is dropped.
pub(crate) trait Contender {
    /// Short name: `rtm`, `kernel`, `redis`, …
    fn name(&self) -> &str;
    /// Measures once. `round` seeds what is random, so that all contenders do
    /// the same work in the same round.
    fn sample(&mut self, round: u64) -> Result<Sample>;
}

/// What the project asks of a ratio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Goal {
    /// The rival's name.
    pub(crate) rival: String,
    /// Times as good as the rival, at least.
    pub(crate) at_least: f64,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measure {
    /// The bench's name on the command line.
    pub(crate) bench: String,
    /// What tells this measure from the others of its bench, such as `64 subscribers`.
    pub(crate) variant: String,
    pub(crate) unit: Unit,
    /// The contender whose ratios are asked for; the others are its rivals.
    pub(crate) subject: String,
    pub(crate) goals: Vec<Goal>,
}

/// How often, and how patiently.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) pairs: usize,
    /// Pairs with a contender whose samples take longer than `slow`.
    pub(crate) pairs_slow: usize,
    pub(crate) slow: Duration,
    /// How long to wait for a quiet machine before each sample.
    pub(crate) settle: Duration,
}

/// One contender's samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// By round; `None` where it was left out because it is slow.
    pub(crate) values: Vec<Option<f64>>,
    pub(crate) median: Median,
    pub(crate) lost: u64,
}

/// The subject's ratio to one rival.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ratio {
    pub(crate) rival: String,
    pub(crate) times: Median,
}

/// What a figure that stands for itself counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Of {
    #[default]
    Bytes,
    Nanoseconds,
    ChangesPerSecond,
}

/// A figure that stands for itself, such as a size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) what: String,
    #[serde(alias = "bytes")]
    pub(crate) value: u64,
    #[serde(default)]
    pub(crate) of: Of,
    /// What the project asks.
    pub(crate) at_most: Option<u64>,
    #[serde(default)]
    pub(crate) at_least: Option<u64>,
}

impl Figure {
    pub(crate) fn bytes(what: &str, value: u64, at_most: Option<u64>) -> Self {
        Self { what: what.to_owned(), value, of: Of::Bytes, at_most, at_least: None }
    }

    pub(crate) fn nanoseconds(what: &str, value: u64, at_most: Option<u64>) -> Self {
        Self { what: what.to_owned(), value, of: Of::Nanoseconds, at_most, at_least: None }
    }

    pub(crate) fn changes(what: &str, value: u64, at_least: Option<u64>) -> Self {
        Self { what: what.to_owned(), value, of: Of::ChangesPerSecond, at_most: None, at_least }
    }
}

/// Figures of one bench without rivals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) bench: String,
    pub(crate) variant: String,
    pub(crate) rows: Vec<Figure>,
}

/// A measure's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) measure: Measure,
    pub(crate) columns: Vec<Column>,
    /// Empty if the subject was not measured.
    pub(crate) ratios: Vec<Ratio>,
    /// Median of the share of processor time that others used just before the samples.
    pub(crate) busy_before: f64,
}

/// Runs all rounds. Progress goes to standard error.
pub(crate) fn run(
    measure: Measure,
    contenders: &mut [Box<dyn Contender + '_>],
    plan: Plan,
) -> Result<Outcome> {
    let mut values: Vec<Vec<Option<f64>>> = vec![Vec::new(); contenders.len()];
    let mut slow = vec![false; contenders.len()];
    let mut lost = vec![0; contenders.len()];
    let mut busy = Vec::new();
    for round in 0..plan.pairs {
        // Spread over all rounds, the first among them.
        let with_slow = round == 0
            || round * plan.pairs_slow / plan.pairs != (round - 1) * plan.pairs_slow / plan.pairs;
        values.iter_mut().for_each(|column| column.push(None));
        // A round that cannot give a pair is not worth its time.
        let subject_slow = contenders
            .iter()
            .zip(&slow)
            .any(|(contender, &slow)| slow && contender.name() == measure.subject);
        let fast = slow.iter().filter(|&&slow| !slow).count();
        if !with_slow && (subject_slow || fast == 0 || (fast == 1 && contenders.len() > 1)) {
            continue;
        }
        for turn in 0..contenders.len() {
            let which = (round + turn) % contenders.len();
            if slow[which] && !with_slow {
                continue;
            }
            busy.push(machine::settle(plan.settle));
            let contender = &mut contenders[which];
            let begun = Instant::now();
            let sample = contender.sample(round as u64).with_context(|| {
                format!("{} {}: {}", measure.bench, measure.variant, contender.name())
            })?;
            slow[which] |= begun.elapsed() > plan.slow;
            eprintln!(
                "{} {} round {}/{}: {} {}{}",
                measure.bench,
                measure.variant,
                round + 1,
                plan.pairs,
                contender.name(),
                measure.unit.show(sample.value),
                if sample.lost == 0 { String::new() } else { format!(", {} lost", sample.lost) }
            );
            values[which][round] = Some(sample.value);
            lost[which] += sample.lost;
        }
    }
    let columns: Vec<Column> = contenders
        .iter()
        .zip(values)
        .zip(lost)
        .map(|((contender, values), lost)| {
            let present: Vec<f64> = values.iter().copied().flatten().collect();
            let median = Median::of(&present).context("no rounds")?;
            Ok(Column { name: contender.name().to_owned(), values, median, lost })
        })
        .collect::<Result<_>>()?;
    let ratios = ratios(&measure, &columns);
    let busy_before = Median::of(&busy).map_or(0.0, |median| median.median);
    Ok(Outcome { measure, columns, ratios, busy_before })
}

/// The subject against each of the others, within rounds.
fn ratios(measure: &Measure, columns: &[Column]) -> Vec<Ratio> {
    let Some(subject) = columns.iter().find(|column| column.name == measure.subject) else {
        return Vec::new();
    };
    columns
        .iter()
        .filter(|column| column.name != measure.subject)
        .filter_map(|rival| {
            let pairs: Vec<f64> = subject
                .values
                .iter()
                .zip(&rival.values)
                .filter_map(|pair| match pair {
                    (Some(ours), Some(theirs)) => Some(measure.unit.times(*ours, *theirs)),
                    _ => None,
                })
                .collect();
            Some(Ratio { rival: rival.name.clone(), times: Median::of(&pairs)? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(&'static str, f64, std::rc::Rc<std::cell::RefCell<Vec<&'static str>>>);

    impl Contender for Fixed {
        fn name(&self) -> &str {
            self.0
        }

        fn sample(&mut self, round: u64) -> Result<Sample> {
            self.2.borrow_mut().push(self.0);
            Ok(Sample { value: self.1 * (round + 1) as f64, lost: 0 })
        }
    }

    #[test]
    fn ratios_are_taken_within_rounds_and_the_order_rotates() {
        let log = std::rc::Rc::default();
        let mut contenders: Vec<Box<dyn Contender>> = vec![
            Box::new(Fixed("rtm", 30.0, std::rc::Rc::clone(&log))),
            Box::new(Fixed("kernel", 3.0, std::rc::Rc::clone(&log))),
        ];
        let measure = |unit| Measure {
            bench: "changes".to_owned(),
            variant: String::new(),
            unit,
            subject: "rtm".to_owned(),
            goals: Vec::new(),
        };
        let plan = Plan { pairs: 4, pairs_slow: 2, slow: Duration::MAX, settle: Duration::ZERO };
        let outcome = run(measure(Unit::DeliveriesPerSecond), &mut contenders, plan).unwrap();
        assert_eq!(outcome.ratios.len(), 1);
        assert_eq!(outcome.ratios[0].times.median, 10.0);
        assert_eq!(outcome.ratios[0].times.samples, 4);
        assert_eq!(log.borrow()[..4], ["rtm", "kernel", "kernel", "rtm"]);
        let slower = run(measure(Unit::Seconds), &mut contenders, plan).unwrap();
        assert!((slower.ratios[0].times.median - 0.1).abs() < 1e-9);
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(Unit::DeliveriesPerSecond.show(31_400_000.0), "31.4 M/s");
        assert_eq!(Unit::DeliveriesPerSecond.show(1_100_000.0), "1.10 M/s");
        assert_eq!(Unit::RoutesPerSecond.show(123_456.0), "123 k routes/s");
        assert_eq!(Unit::Seconds.show(15.42), "15.42 s");
        assert_eq!(Unit::Seconds.show(0.0123), "12.3 ms");
        assert_eq!(Unit::Microseconds.show(12.34), "12.3 µs");
    }
}
