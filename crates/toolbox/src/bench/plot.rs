//! The plots: bars of the median round trip, on a scale of powers of ten, in the
//! terminal and as SVG.
use super::Figure;

/// Bars are so wide for each power of ten, in characters.
const DECADE: f64 = 16.0;
/// The scale begins here, in nanoseconds.
const BEGIN: f64 = 100.0;

fn label(f: &Figure) -> String {
    let core = if f.same_core { "same core" } else { "other core" };
    format!("{} {} B, {core}", f.mechanism.name(), f.bytes)
}

fn decades(nanos: u64) -> f64 {
    (nanos.max(1) as f64 / BEGIN).log10().max(0.0)
}

/// For the terminal: the bar reaches to p50, dots to p99.
pub(crate) fn bars(figures: &[Figure]) -> String {
    let width = figures.iter().map(|f| label(f).len()).max().unwrap_or(0);
    let mut text = String::from(
        "\nround trip, # to p50 and . to p99, a power of ten is 16 wide, from 0.1 us\n",
    );
    for f in figures {
        let solid = (decades(f.trip[0]) * DECADE) as usize;
        let dots = ((decades(f.trip[1]) * DECADE) as usize).saturating_sub(solid);
        let (label, p50) = (label(f), f.trip[0] as f64 / 1000.0);
        text.push_str(&format!(
            "{label:<width$} {}{} {p50:.1} us\n",
            "#".repeat(solid.max(1)),
            ".".repeat(dots)
        ));
    }
    text
}

/// As SVG, without any other file.
pub(crate) fn svg(figures: &[Figure]) -> String {
    let (left, step, decade) = (260.0, 18.0, 150.0);
    let most = figures.iter().map(|f| decades(f.trip[2])).fold(1.0, f64::max).ceil();
    let width = left + most * decade + 90.0;
    let height = 50.0 + figures.len() as f64 * step + 20.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{left}\" y=\"18\">round trip: bar to p50, line to p99, mark at p99.9</text>\n"
    );
    for power in 0..=most as i32 {
        let x = left + f64::from(power) * decade;
        let us = BEGIN / 1000.0 * 10_f64.powi(power);
        text.push_str(&format!(
            "<line x1=\"{x:.1}\" y1=\"40\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"#ccc\"/>\n\
             <text x=\"{x:.1}\" y=\"36\" text-anchor=\"middle\" fill=\"#666\">{us} us</text>\n",
            height - 20.0
        ));
    }
    for (n, f) in figures.iter().enumerate() {
        let y = 46.0 + n as f64 * step;
        let at = |index: usize| left + decades(f.trip[index]) * decade;
        let colour = if f.same_core { "#4477aa" } else { "#cc8844" };
        let middle = y + 6.0;
        text.push_str(&format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{left}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"12\" fill=\"{colour}\"/>\n\
             <line x1=\"{:.1}\" y1=\"{middle:.1}\" x2=\"{:.1}\" y2=\"{middle:.1}\" stroke=\"#333\"/>\n\
             <line x1=\"{:.1}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#a00\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#333\">{:.1} us</text>\n",
            left - 6.0,
            y + 10.0,
            label(f),
            (at(0) - left).max(1.0),
            at(0),
            at(1),
            at(2),
            at(2),
            y + 12.0,
            at(2) + 6.0,
            y + 10.0,
            f.trip[0] as f64 / 1000.0,
        ));
    }
    text.push_str("</svg>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::super::Mechanism;
    use super::*;

    #[test]
    fn bars_are_as_long_as_the_times() {
        let figure = |nanos| Figure {
            mechanism: Mechanism::Pipe,
            bytes: 64,
            same_core: true,
            trip: [nanos, nanos * 10, nanos * 100],
            rate: 1,
        };
        let figures = [figure(1_000), figure(10_000)];
        let text = bars(&figures);
        assert!(
            text.contains(&format!("same core {}{} 1.0 us\n", "#".repeat(16), ".".repeat(16))),
            "{text}"
        );
        let picture = svg(&figures);
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert_eq!(picture.matches("<rect x=").count(), 2);
    }
}
