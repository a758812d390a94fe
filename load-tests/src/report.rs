//! What a run comes to: told to people, drawn, and as a line of JSON to programs; and whether every promise was kept.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};

use crate::{
    audit::Audit,
    chart::Chart,
    flows::Flow,
    options::{Common, Output},
    seen::{Counts, Latency, Seen, Times},
};

/// What only the scenario knows.
pub(crate) struct Story {
    pub(crate) scenario: &'static str,
    /// Parts of the run that are told apart; none where it is one.
    pub(crate) phases: Vec<Phase>,
    /// Whose latency is told.
    pub(crate) whose: fn(&Flow) -> bool,
    /// What happened when.
    pub(crate) marks: Vec<Mark>,
    /// Said to people, and in the JSON.
    pub(crate) lines: Vec<String>,
    pub(crate) fields: Map<String, Value>,
}

/// A part of a run, in seconds from its start.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) at: f64,
    pub(crate) what: String,
}

/// All that was found.
pub(crate) struct Report<'a> {
    pub(crate) seen: &'a Seen,
    /// From the start until the last message came.
    pub(crate) seconds: f64,
    pub(crate) audit: Audit,
    pub(crate) memory: &'a [(f64, u64)],
    /// How many messages were sent again.
    pub(crate) repeats: u64,
    /// Microseconds a message, by part.
    pub(crate) processor: BTreeMap<&'static str, f64>,
}

/// The latencies of a phase, in milliseconds.
struct Figures {
    name: &'static str,
    messages: u64,
    whole: [f64; 2],
    push: [f64; 2],
    memory_mib: Option<u64>,
}

impl Story {
    /// Of a scenario without parts.
    pub(crate) fn of(scenario: &'static str) -> Self {
        Self { scenario, phases: Vec::new(), whose: |_| true, marks: Vec::new(), lines: Vec::new(), fields: Map::new() }
    }
}

impl Phase {
    fn holds(&self, micros: u64) -> bool {
        (self.from..self.to).contains(&Duration::from_micros(micros).as_secs_f64())
    }
}

impl Report<'_> {
    /// Tells it.
    ///
    /// # Errors
    /// A promise is broken.
    pub(crate) fn tell(&self, common: &Common, story: &Story) -> anyhow::Result<()> {
        let counts = self.seen.counts();
        let all = Phase { name: "whole", from: 0.0, to: f64::INFINITY };
        let whole = self.figures(&all, story);
        let phases: Vec<Figures> = story.phases.iter().map(|phase| self.figures(phase, story)).collect();
        if common.output == Output::Human {
            self.tell_people(&counts, &whole, &phases, story);
        }
        println!("{}", self.json(&counts, &whole, &phases, story));
        if let Some(path) = &common.chart {
            let chart = Chart::of(story.scenario, self.seen.times(story.whose), &story.phases, &story.marks);
            fs::write(path, chart.to_svg()).with_context(|| path.display().to_string())?;
        }
        self.judge(&counts)
    }

    fn figures(&self, phase: &Phase, story: &Story) -> Figures {
        let times = self.seen.times(story.whose).filter(|times: &Times| phase.holds(times.intended));
        let latency = Latency::of(times);
        let ms = |histogram: &hdrhistogram::Histogram<u64>| {
            [0.5, 0.99].map(|quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0)
        };
        let memory = self.memory.iter().filter(|(at, _)| (phase.from..phase.to).contains(at)).map(|(_, mib)| *mib);
        Figures {
            name: phase.name,
            messages: latency.whole.len(),
            whole: ms(&latency.whole),
            push: ms(&latency.push),
            memory_mib: memory.max(),
        }
    }

    fn tell_people(&self, counts: &Counts, whole: &Figures, phases: &[Figures], story: &Story) {
        let Counts { messages, lost, duplicates, unflagged, inversions, receipts, refused, .. } = counts;
        println!("\n{messages} messages in {:.1} s: {:.0} a second", self.seconds, self.rate(counts));
        println!("lost {lost}, delivered again {duplicates} ({unflagged} not flagged), inversions {inversions}");
        println!("{receipts} receipts, each verified; refused: {refused:?}");
        if counts.repeated > 0 {
            println!(
                "{} messages sent again: {} of their receipts say something else",
                counts.repeated, counts.changed
            );
        }
        if counts.altered + counts.foreign > 0 {
            println!("{} came altered; {} of others were given back", counts.altered, counts.foreign);
        }
        match &self.audit {
            Audit::Missing(0) => println!("the ledger has every receipt's record, and each is about its message"),
            Audit::Missing(missing) => println!("the ledger LACKS the records of {missing} receipts"),
            Audit::LeftOut(why) => println!("LEFT OUT: the ledger was not looked at: {why}"),
        }
        for line in &story.lines {
            println!("{line}");
        }
        for Mark { at, what } in &story.marks {
            println!("  {at:.1} s: {what}");
        }
        for figures in std::iter::once(whole).chain(phases) {
            let Figures { name, messages, whole: [p50, p99], push: [push_p50, push_p99], memory_mib } = figures;
            println!(
                "{name}: {messages} messages; from sending to the collector's hand: p50 {p50:.1} ms, p99 {p99:.1} ms; \
                 from the receipt: p50 {push_p50:.1} ms, p99 {push_p99:.1} ms{}",
                memory_mib.map(|mib| format!("; gateway at most {mib} MiB")).unwrap_or_default()
            );
        }
        if let Some((whole, push)) = rise(phases) {
            println!(
                "the p99 of those who did nothing is {whole:.2} times that of before; from the receipt {push:.2} times"
            );
        }
        for (part, micros) in &self.processor {
            println!("processor time of the {part}: {micros:.1} µs a message");
        }
    }

    fn json(&self, counts: &Counts, whole: &Figures, phases: &[Figures], story: &Story) -> Value {
        let mut fields = json!({
            "scenario": story.scenario, "messages": counts.messages, "seconds": self.seconds, "lost": counts.lost,
            "duplicates": counts.duplicates, "unflagged_duplicates": counts.unflagged, "inversions": counts.inversions,
            "altered": counts.altered, "foreign": counts.foreign, "receipts": counts.receipts,
            "repeated_receipts": counts.repeated, "changed_receipts": counts.changed,
            "receipts_not_in_ledger": match &self.audit {
                Audit::Missing(missing) => json!(missing),
                Audit::LeftOut(_) => Value::Null,
            },
            "a_second": self.rate(counts), "processor_us": self.processor,
            "phases": phases.iter().map(Figures::json).collect::<Vec<_>>(),
        });
        if let (Value::Object(fields), Value::Object(whole)) = (&mut fields, whole.json()) {
            let whole = whole.into_iter().filter(|(field, _)| field.ends_with("ms") || field.ends_with("mib"));
            fields.extend(whole.chain(story.fields.clone()));
            if let Some((whole, push)) = rise(phases) {
                fields.extend([("p99_ratio".to_owned(), json!(whole)), ("push_p99_ratio".to_owned(), json!(push))]);
            }
        }
        fields
    }

    fn rate(&self, counts: &Counts) -> f64 {
        if self.seconds > 0.0 { counts.messages as f64 / self.seconds } else { 0.0 }
    }

    fn judge(&self, counts: &Counts) -> anyhow::Result<()> {
        let Counts { lost, inversions, unflagged, altered, changed, without_receipt, .. } = counts;
        let broken = [lost, inversions, unflagged, altered, changed].into_iter().any(|count| *count > 0);
        ensure!(!broken, "the promises are broken");
        ensure!(*without_receipt == 0, "{without_receipt} messages have no receipt");
        ensure!(counts.repeated == self.repeats, "{} of {} repeats have a receipt", counts.repeated, self.repeats);
        ensure!(!matches!(self.audit, Audit::Missing(1..)), "receipts' records are not in the ledger");
        Ok(())
    }
}

/// Of two phases: how many times the first's p99 is the second's, from sending and from the receipt.
fn rise(phases: &[Figures]) -> Option<(f64, f64)> {
    let [quiet, disturbed] = phases else { return None };
    Some((disturbed.whole[1] / quiet.whole[1], disturbed.push[1] / quiet.push[1]))
}

impl Figures {
    fn json(&self) -> Value {
        json!({
            "name": self.name, "messages": self.messages, "p50_ms": self.whole[0], "p99_ms": self.whole[1],
            "push_p50_ms": self.push[0], "push_p99_ms": self.push[1], "resident_mib": self.memory_mib,
        })
    }
}
