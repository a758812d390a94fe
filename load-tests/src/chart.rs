//! A run's latency and throughput over time, drawn by hand as SVG: two panels above each other over the same seconds.
//!
//! Latency is on a logarithmic scale, by when messages were to be sent; throughput by when they came.

use std::fmt::{self, Write};

use hdrhistogram::Histogram;

use crate::{
    report::{Mark, Phase},
    seen::{LONGEST_US, Times},
};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 640.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 930.0;

/// Top and bottom of the panels.
const LATENCY: (f64, f64) = (70.0, 320.0);
const THROUGHPUT: (f64, f64) = (370.0, 580.0);

/// At most so many points a line.
const POINTS: f64 = 120.0;

/// Lines and their colours, which people tell apart who see few.
const QUANTILES: [(&str, f64, &str); 3] = [("p50", 0.5, "#0072b2"), ("p90", 0.9, "#e69f00"), ("p99", 0.99, "#d55e00")];
const SENT: (&str, &str) = ("to be sent", "#999999");
const CAME: (&str, &str) = ("delivered", "#009e73");

/// What is drawn.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    pub(crate) phases: &'a [Phase],
    pub(crate) marks: &'a [Mark],
    /// Seconds on each point.
    step: f64,
    slices: Vec<Slice>,
}

/// What fell into a step of time.
struct Slice {
    latency: Histogram<u64>,
    sent: u64,
    came: u64,
}

/// Where values lie between two edges of the picture.
#[derive(Clone, Copy)]
struct Scale {
    from: f64,
    to: f64,
    edges: (f64, f64),
}

impl Scale {
    fn at(self, value: f64) -> f64 {
        let share = (value - self.from) / (self.to - self.from);
        self.edges.0 + share.clamp(0.0, 1.0) * (self.edges.1 - self.edges.0)
    }
}

impl<'a> Chart<'a> {
    pub(crate) fn of(
        title: &'a str,
        times: impl Iterator<Item = Times>,
        phases: &'a [Phase],
        marks: &'a [Mark],
    ) -> Self {
        let times: Vec<Times> = times.collect();
        let seconds = |micros: u64| micros as f64 / 1e6;
        let last = times.iter().map(|times| times.came.max(times.intended)).max().unwrap_or_default();
        let step = round_up(seconds(last).max(1.0) / POINTS);
        let count = (seconds(last) / step) as usize + 1;
        let empty = || Histogram::new_with_bounds(1, LONGEST_US, 2).expect("constant bounds");
        let mut slices: Vec<Slice> = (0..count).map(|_| Slice { latency: empty(), sent: 0, came: 0 }).collect();
        for times in times {
            let slice = |micros| ((seconds(micros) / step) as usize).min(count - 1);
            slices[slice(times.intended)].sent += 1;
            if times.came > 0 {
                slices[slice(times.came)].came += 1;
                let latency = &mut slices[slice(times.intended)].latency;
                latency.saturating_record(times.came.saturating_sub(times.intended).max(1));
            }
        }
        Self { title, phases, marks, step, slices }
    }

    /// The whole picture.
    pub(crate) fn to_svg(&self) -> String {
        let mut svg = String::new();
        self.draw(&mut svg).expect("a string takes everything");
        svg
    }

    fn draw(&self, svg: &mut String) -> fmt::Result {
        writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
        )?;
        text(svg, (LEFT, 28.0), "start", &format!("{}: latency and throughput over time", self.title))?;
        let end = self.step * self.slices.len() as f64;
        let across = Scale { from: 0.0, to: end, edges: (LEFT, RIGHT) };
        self.draw_latency(svg, across)?;
        self.draw_throughput(svg, across)?;
        self.draw_events(svg, across)?;
        text(svg, ((LEFT + RIGHT) / 2.0, HEIGHT - 14.0), "middle", "seconds from the start")?;
        writeln!(svg, "</svg>")
    }

    fn draw_latency(&self, svg: &mut String, across: Scale) -> fmt::Result {
        let taken = self.slices.iter().filter(|slice| !slice.latency.is_empty());
        let (least, most) = taken.fold((f64::MAX, 1.0_f64), |(least, most), slice| {
            let ms = |quantile| milliseconds(&slice.latency, quantile);
            (least.min(ms(0.5)), most.max(ms(0.99)))
        });
        let from = least.min(most).log10().floor();
        let up = Scale { from, to: most.log10().ceil().max(from + 1.0), edges: (LATENCY.1, LATENCY.0) };
        frame(svg, LATENCY, across)?;
        text(svg, (LEFT, LATENCY.0 - 12.0), "start", "milliseconds from sending to the collector's hand")?;
        for power in (up.from as i32)..=(up.to as i32) {
            grid(svg, up.at(f64::from(power)), &number(10_f64.powi(power)))?;
        }
        for (index, (name, quantile, colour)) in QUANTILES.iter().enumerate() {
            let point =
                |slice: &Slice| (!slice.latency.is_empty()).then(|| milliseconds(&slice.latency, *quantile).log10());
            self.line(svg, across, up, colour, point)?;
            legend(svg, (RIGHT - 70.0 * (3 - index) as f64, LATENCY.0 - 12.0), name, colour)?;
        }
        Ok(())
    }

    fn draw_throughput(&self, svg: &mut String, across: Scale) -> fmt::Result {
        let most = self.slices.iter().map(|slice| slice.came.max(slice.sent)).max().unwrap_or_default();
        let interval = round_up(most as f64 / self.step / 5.0);
        let up = Scale { from: 0.0, to: interval * 5.0, edges: (THROUGHPUT.1, THROUGHPUT.0) };
        frame(svg, THROUGHPUT, across)?;
        text(svg, (LEFT, THROUGHPUT.0 - 12.0), "start", "messages a second")?;
        for tick in 0..=5 {
            let value = interval * f64::from(tick);
            grid(svg, up.at(value), &number(value))?;
        }
        self.line(svg, across, up, SENT.1, |slice| Some(slice.sent as f64 / self.step))?;
        self.line(svg, across, up, CAME.1, |slice| Some(slice.came as f64 / self.step))?;
        legend(svg, (RIGHT - 200.0, THROUGHPUT.0 - 12.0), SENT.0, SENT.1)?;
        legend(svg, (RIGHT - 90.0, THROUGHPUT.0 - 12.0), CAME.0, CAME.1)
    }

    /// A line through the middle of each step; broken where there is no value.
    fn line(
        &self,
        svg: &mut String,
        across: Scale,
        up: Scale,
        colour: &str,
        value: impl Fn(&Slice) -> Option<f64>,
    ) -> fmt::Result {
        let mut path = String::new();
        let mut is_broken = true;
        for (index, slice) in self.slices.iter().enumerate() {
            let Some(value) = value(slice) else {
                is_broken = true;
                continue;
            };
            let (x, y) = (across.at((index as f64 + 0.5) * self.step), up.at(value));
            write!(path, "{}{x:.1} {y:.1} ", if is_broken { "M" } else { "L" })?;
            is_broken = false;
        }
        writeln!(
            svg,
            "<path d=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" stroke-linecap=\"round\"/>",
            path.trim_end()
        )
    }

    /// Phases by name between their bounds, what happened as dashed lines that say it when pointed at.
    fn draw_events(&self, svg: &mut String, across: Scale) -> fmt::Result {
        let upright = |x: f64, dash: &str| {
            let [one, other] = [LATENCY, THROUGHPUT].map(|(top, bottom)| format!("M{x:.1} {top}V{bottom}"));
            format!("<path d=\"{one}{other}\" stroke=\"#555555\" stroke-width=\"1\" stroke-dasharray=\"{dash}\">")
        };
        for Phase { name, from, .. } in self.phases {
            let x = across.at(*from);
            writeln!(svg, "{}<title>{}</title></path>", upright(x, "none"), escaped(name))?;
            text(svg, (x + 4.0, LATENCY.0 + 16.0), "start", name)?;
        }
        for Mark { at, what } in self.marks {
            writeln!(svg, "{}<title>{at:.1} s: {}</title></path>", upright(across.at(*at), "3 4"), escaped(what))?;
        }
        if !self.marks.is_empty() {
            text(svg, ((LEFT + RIGHT) / 2.0, 28.0), "start", "dashed: something was killed")?;
        }
        Ok(())
    }
}

fn milliseconds(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1000.0
}

/// A panel's frame, with the seconds below it.
fn frame(svg: &mut String, (top, bottom): (f64, f64), across: Scale) -> fmt::Result {
    writeln!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#333333\"/>",
        RIGHT - LEFT,
        bottom - top
    )?;
    let interval = round_up(across.to / 10.0);
    for tick in 0..=(across.to / interval) as u32 {
        let value = interval * f64::from(tick);
        let x = across.at(value);
        writeln!(svg, "<path d=\"M{x:.1} {bottom}v5\" stroke=\"#333333\"/>")?;
        text(svg, (x, bottom + 20.0), "middle", &number(value))?;
    }
    Ok(())
}

/// A line across, with its value at the left.
fn grid(svg: &mut String, y: f64, label: &str) -> fmt::Result {
    writeln!(svg, "<path d=\"M{LEFT} {y:.1}H{RIGHT}\" stroke=\"#dddddd\"/>")?;
    text(svg, (LEFT - 8.0, y + 4.0), "end", label)
}

fn legend(svg: &mut String, (x, y): (f64, f64), name: &str, colour: &str) -> fmt::Result {
    writeln!(svg, "<path d=\"M{x} {}h18\" stroke=\"{colour}\" stroke-width=\"3\"/>", y - 4.0)?;
    text(svg, (x + 24.0, y), "start", name)
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, what: &str) -> fmt::Result {
    writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#222222\">{}</text>", escaped(what))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The next of 1, 2 and 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(f64::MIN_POSITIVE).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= value * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

/// As short as it is exact enough for a label.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (value, rounded) in [(0.011, 0.02), (0.5, 0.5), (3.0, 5.0), (7.0, 10.0), (1200.0, 2000.0)] {
            assert!((round_up(value) - rounded).abs() < 1e-9, "{value}: {}", round_up(value));
        }
        assert_eq!(number(0.1), "0.1");
        assert_eq!(number(1000.0), "1000");
    }

    #[test]
    fn nothing_at_all_is_drawn_too() {
        let svg = Chart::of("nothing", std::iter::empty(), &[], &[]).to_svg();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
    }
}
