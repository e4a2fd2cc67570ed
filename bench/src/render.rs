//! `docs/benchmarks.md`, made of the newest result of each measure.

use std::fmt::Write;

use crate::benches::{BENCHES, reasons};
use crate::harness::results::{Measured, Record};
use crate::harness::rounds::{Column, Figures, Of, Outcome, Unit};
use crate::harness::stats::Median;

const HEAD: &str = "\
# Benchmarks

Made by `scripts/bench`; do not edit. All contenders of a measure run in the same
run, in turn, in rotating order; subscribers are processes of their own, free to run on all cores. A ratio
is the median of the ratios within each round, with an interval that contains the
true median with the probability shown (order statistics, no assumption about the
distribution). Only what subscribers received counts. How each measure is
made, and what is done in the rivals' favour, is told in `bench/README.md`.
";

/// The whole page. Quick results are left out unless there is nothing else.
pub(crate) fn page(records: &[Record]) -> String {
    let mut page = HEAD.to_owned();
    for (bench, what) in BENCHES {
        let newest = newest(records, bench);
        if newest.is_empty() {
            continue;
        }
        let _ = write!(page, "\n## {bench}\n\n{}.\n\n", capitalised(what));
        for record in &newest {
            page += &table(&record.result);
            page.push('\n');
        }
        if let Some(reasons) = reasons(bench) {
            let _ = writeln!(page, "{reasons}\n");
        }
        for line in distinct(newest.iter().map(|record| provenance(record))) {
            let _ = writeln!(page, "{line}\n");
        }
        page.truncate(page.trim_end().len());
        page.push('\n');
    }
    page
}

/// One result as a Markdown table with its name above.
pub(crate) fn table(result: &Measured) -> String {
    match result {
        Measured::Rounds(outcome) => rounds(outcome),
        Measured::Figures(figures) => sizes(figures),
    }
}

fn sizes(figures: &Figures) -> String {
    let mut text = format!(
        "**{}: {}**\n\n| what | figure | asked |\n|---|--:|--:|\n",
        figures.bench, figures.variant
    );
    for figure in &figures.rows {
        let (value, of) = (figure.value, figure.of);
        let asked = [
            figure.at_most.map(|bound| ("≤", bound, value <= bound)),
            figure.at_least.map(|bound| ("≥", bound, value >= bound)),
        ];
        let asked = asked.into_iter().flatten().next().map_or("-".to_owned(), |asked| {
            let verdict = if asked.2 { "reached" } else { "**missed**" };
            format!("{} {}: {verdict}", asked.0, shown(of, asked.1))
        });
        let _ = writeln!(text, "| {} | {} | {asked} |", figure.what, shown(of, value));
    }
    text
}

fn shown(of: Of, value: u64) -> String {
    match of {
        Of::Bytes => size(value),
        Of::Nanoseconds => Unit::Microseconds.show(value as f64 / 1e3),
        Of::ChangesPerSecond => Unit::ChangesPerSecond.show(value as f64),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..2_048 => format!("{bytes} B"),
        2_048..2_097_152 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

fn rounds(outcome: &Outcome) -> String {
    let measure = &outcome.measure;
    let mut text = format!("**{}: {}**\n\n", measure.bench, measure.variant);
    text += "| contender | median | interval | samples | rtm is better by | asked |\n|---|--:|--:|--:|--:|--:|\n";
    for column in &outcome.columns {
        let ratio = outcome.ratios.iter().find(|ratio| ratio.rival == column.name);
        let asked = measure.goals.iter().find(|goal| goal.rival == column.name);
        let times = ratio.map_or("-".to_owned(), |ratio| times(&ratio.times));
        let verdict = asked.map_or("-".to_owned(), |goal| {
            let wanted = format!("≥ {}×", number(goal.at_least));
            match ratio {
                Some(ratio) if ratio.times.median >= goal.at_least => format!("{wanted}: reached"),
                Some(_) => format!("{wanted}: **missed**"),
                None => wanted,
            }
        });
        let _ = writeln!(
            text,
            "| {} | {} | {} | {}{} | {times} | {verdict} |",
            column.name,
            measure.unit.show(column.median.median),
            interval(outcome, column),
            column.median.samples,
            if column.lost == 0 { String::new() } else { format!(", {} lost", column.lost) },
        );
    }
    text
}

fn interval(outcome: &Outcome, column: &Column) -> String {
    let unit = outcome.measure.unit;
    format!("{} – {}", unit.show(column.median.low), unit.show(column.median.high))
}

fn times(median: &Median) -> String {
    format!(
        "**{}×** ({} – {}, {:.0} %)",
        number(median.median),
        number(median.low),
        number(median.high),
        median.coverage * 100.0
    )
}

fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn provenance(record: &Record) -> String {
    let machine = &record.machine;
    let busy = match &record.result {
        Measured::Rounds(outcome) => {
            format!(" Processors {:.0} % busy before the samples.", outcome.busy_before * 100.0)
        }
        Measured::Figures(_) => String::new(),
    };
    format!(
        "{}{}: {}, {} cores, {:.0} GiB, Linux {}; commit {}; `{}`.{busy}",
        if record.quick { "Preliminary. " } else { "" },
        record.date,
        machine.cpu,
        machine.cores,
        machine.memory_mib as f64 / 1024.0,
        machine.kernel,
        record.commit,
        record.command,
    )
}

/// The newest full result of each variant, or the newest quick one; in the
/// order in which the variants were first measured.
fn newest<'a>(records: &'a [Record], bench: &str) -> Vec<&'a Record> {
    let mut newest: Vec<&Record> = Vec::new();
    for record in records.iter().filter(|record| record.result.name().0 == bench) {
        match newest.iter_mut().find(|other| other.result.name() == record.result.name()) {
            Some(other) if !record.quick || other.quick => *other = record,
            Some(_) => {}
            None => newest.push(record),
        }
    }
    newest
}

fn distinct(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for line in lines {
        if !kept.contains(&line) {
            kept.push(line);
        }
    }
    kept
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or(String::new(), |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::machine::Machine;
    use crate::harness::rounds::{Figure, Goal, Measure, Ratio};

    fn record(quick: bool, rtm: f64) -> Record {
        let column = |name: &str, value| Column {
            name: name.to_owned(),
            values: vec![Some(value)],
            median: Median::of(&[value]).unwrap(),
            lost: 0,
        };
        Record {
            date: "2026-11-21".to_owned(),
            commit: "abc".to_owned(),
            command: "scripts/bench load".to_owned(),
            machine: Machine {
                cpu: "x".to_owned(),
                cores: 2,
                memory_mib: 2048,
                kernel: "6".to_owned(),
            },
            quick,
            result: Measured::Rounds(Outcome {
                measure: Measure {
                    bench: "load".to_owned(),
                    variant: "8 subscribers".to_owned(),
                    unit: Unit::Seconds,
                    subject: "rtm".to_owned(),
                    goals: vec![Goal { rival: "kernel".to_owned(), at_least: 10.0 }],
                },
                columns: vec![column("rtm", rtm), column("kernel", 15.0)],
                ratios: vec![Ratio {
                    rival: "kernel".to_owned(),
                    times: Median::of(&[15.0 / rtm]).unwrap(),
                }],
                busy_before: 0.0,
            }),
        }
    }

    #[test]
    fn the_newest_full_result_is_shown_with_its_verdict() {
        let page = page(&[record(false, 3.0), record(false, 1.0), record(true, 9.0)]);
        assert!(page.contains("| kernel | 15.00 s | 15.00 s – 15.00 s | 1 | **15.0×** (15.0 – 15.0, 0 %) | ≥ 10.0×: reached |"), "{page}");
        assert!(!page.contains("Preliminary"));
        let missed = table(&record(false, 3.0).result);
        assert!(missed.contains("**missed**"));
    }

    #[test]
    fn sizes_read_well() {
        let rows = vec![
            Figure::bytes("idle", 7 << 20, Some(8 << 20)),
            Figure::bytes("each", 151, Some(150)),
        ];
        let figures = Figures { bench: "memory".to_owned(), variant: String::new(), rows };
        let text = table(&Measured::Figures(figures));
        assert!(text.contains("| idle | 7.0 MiB | ≤ 8.0 MiB: reached |"), "{text}");
        assert!(text.contains("| each | 151 B | ≤ 150 B: **missed** |"), "{text}");
    }
}
