//! A run: every partner that sends, every partner that collects, and what they see, from the first message to the last check.
//!
//! What a scenario does besides, it does between [`Run::begin`] and [`Run::finish`].

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use airut_client::{Client, CollectorSettings, Outcomes, ReceiptKeys, SenderSettings};
use anyhow::Context;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    audit::{self, Audit},
    flows::{FLOWS, Material, run_name},
    options::{Common, Output},
    place::Place,
    plan::{Plan, Planned},
    progress::Progress,
    report::{Report, Story},
    seen::{Seen, Whose},
};

/// Nothing has come for so long, and a lease: what has not come is lost.
const QUIET: Duration = Duration::from_secs(120);

/// How long the last settlements may take to be confirmed.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// Of so many messages one is sent again by [`Run::send_again`], and how long it is waited for what must not come.
const REPEATED: u64 = 10;
const AFTER: Duration = Duration::from_secs(1);

/// How often a run is looked at, and the gateways' memory.
const LOOK: Duration = Duration::from_millis(20);
const LOOK_AT_MEMORY: Duration = Duration::from_millis(500);

/// A run under way.
pub(crate) struct Run {
    pub(crate) place: Place,
    pub(crate) seen: Arc<Seen>,
    material: Arc<Material>,
    plan: Arc<Plan>,
    collector: CollectorSettings,
    senders: JoinSet<anyhow::Result<()>>,
    collecting: Vec<Collecting>,
    pub(crate) progress: Progress,
    /// The gateways' memory in MiB, by when it was looked at in seconds.
    memory: Vec<(f64, u64)>,
    /// What each part had used of the processor before; none where that can't be told.
    processor: Option<BTreeMap<&'static str, f64>>,
    /// How many messages are sent again.
    repeats: u64,
    /// The processor time of each part, in microseconds a message, once it is no longer counted.
    counted: Option<BTreeMap<&'static str, f64>>,
}

/// A recipient's collector at one gateway.
struct Collecting {
    recipient: &'static str,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Run {
    /// Has everybody collect, then everybody send what is planned. `unplanned` is how many more messages there may be.
    pub(crate) async fn begin(common: &Common, place: Place, plan: Plan, unplanned: usize) -> anyhow::Result<Self> {
        let run = run_name();
        let material = Arc::new(Material::load(&run, place.persons()?, common.payload_bytes)?);
        let processor = place.exchange.as_ref().map(|exchange| exchange.processor_seconds()).transpose()?;
        let mut begun = Self {
            seen: Arc::new(Seen::new(run, &plan, unplanned)),
            material,
            progress: Progress::of(plan.len() as u64),
            plan: Arc::new(plan),
            collector: CollectorSettings {
                credit: common.credit,
                lease: Duration::from_secs(common.lease),
                stop_within: STOP_WITHIN,
                ..CollectorSettings::default()
            },
            senders: JoinSet::new(),
            collecting: Vec::new(),
            memory: Vec::new(),
            processor,
            repeats: 0,
            counted: None,
            place,
        };
        let mut recipients: Vec<&str> = begun.plan.flow_of.iter().map(|flow| FLOWS[*flow].to).collect();
        recipients.sort_unstable();
        recipients.dedup();
        for recipient in recipients {
            begun.collect(recipient).await?;
        }
        begun.send(|_| true).await?;
        Ok(begun)
    }

    /// Has the recipient collect at every gateway.
    pub(crate) async fn collect(&mut self, recipient: &'static str) -> anyhow::Result<()> {
        for gateway in 0..self.place.addresses.len() {
            let client = self.place.client(recipient, gateway).await?;
            let stop = CancellationToken::new();
            let settings = self.collector.clone();
            let (seen, material) = (Arc::clone(&self.seen), Arc::clone(&self.material));
            let task = tokio::spawn(collect(client, settings, material, seen, stop.clone()));
            self.collecting.push(Collecting { recipient, stop, task });
        }
        Ok(())
    }

    /// Has the recipient collect no more.
    pub(crate) async fn stop_collecting(&mut self, recipient: &str) -> anyhow::Result<()> {
        let (stopping, staying) = self.collecting.drain(..).partition(|collecting| collecting.recipient == recipient);
        self.collecting = staying;
        stop(stopping).await
    }

    /// Has everybody send those of the planned messages that `is_among` picks. Each partner is at one gateway: its order is that of
    /// one stream.
    async fn send(&mut self, is_among: fn(&Planned) -> bool) -> anyhow::Result<()> {
        let keys = self.place.receipt_keys()?;
        for (gateway, sender) in self.plan.senders().enumerate() {
            let client = self.place.client(sender, gateway).await?;
            let sending = Sending {
                keys: keys.clone(),
                plan: Arc::clone(&self.plan),
                material: Arc::clone(&self.material),
                seen: Arc::clone(&self.seen),
            };
            self.senders.spawn(sending.run(client, sender, is_among));
        }
        Ok(())
    }

    /// Sends one in ten messages again under its id, at once: each is to get the receipt that it has, and to come no more.
    pub(crate) async fn send_again(&mut self) -> anyhow::Result<()> {
        self.repeats = self.plan.all().filter(|planned| is_repeated(planned)).count() as u64;
        self.send(is_repeated).await?;
        self.until_all_sent().await?;
        // Nothing is to come, for which there is no sign to wait.
        tokio::time::sleep(AFTER).await;
        Ok(())
    }

    /// Goes on until the time, counted from its start.
    pub(crate) async fn until(&mut self, time: Duration) -> anyhow::Result<()> {
        self.watch(|run| run.seen.began.elapsed() >= time).await
    }

    /// What messages are made from.
    pub(crate) fn material(&self) -> Arc<Material> {
        Arc::clone(&self.material)
    }

    /// Goes on until every message that is planned has its outcome.
    pub(crate) async fn until_all_sent(&mut self) -> anyhow::Result<()> {
        self.watch(|run| run.senders.is_empty()).await
    }

    /// Goes on until every message that has a receipt has come, or nothing comes any more.
    pub(crate) async fn until_all_came(&mut self) -> anyhow::Result<()> {
        self.watch(|run| run.senders.is_empty() && run.seen.outstanding() == 0).await
    }

    async fn watch(&mut self, is_over: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let (began, mut looked) = (Instant::now(), Instant::now());
        loop {
            tokio::time::sleep(LOOK).await;
            self.progress.tell(self.seen.came_count());
            while let Some(ended) = self.senders.try_join_next() {
                ended??;
            }
            if is_over(self) {
                return Ok(());
            }
            if self.seen.last().elapsed().min(began.elapsed()) > QUIET + self.collector.lease {
                self.senders.abort_all();
                while self.senders.join_next().await.is_some() {}
                return Ok(());
            }
            if looked.elapsed() >= LOOK_AT_MEMORY {
                looked = Instant::now();
                self.look_at_memory()?;
            }
        }
    }

    fn look_at_memory(&mut self) -> anyhow::Result<()> {
        if let Some(exchange) = &self.place.exchange {
            self.memory.push((self.seen.began.elapsed().as_secs_f64(), exchange.resident_mib()?));
        }
        Ok(())
    }

    /// What is done from now on is not the run's.
    pub(crate) fn count_no_more(&mut self) -> anyhow::Result<()> {
        self.counted = Some(self.processor_us()?);
        Ok(())
    }

    /// No figures of the processor: parts of the exchange were killed, and what they had used with them.
    pub(crate) fn forget_processor(&mut self) {
        self.processor = None;
    }

    /// From the start until the last message came.
    pub(crate) fn seconds(&self) -> f64 {
        self.seen.last().duration_since(self.seen.began).as_secs_f64()
    }

    /// Stops everything, checks the ledger, and tells what was found.
    ///
    /// # Errors
    /// When a promise is broken, among others.
    pub(crate) async fn finish(mut self, common: &Common, story: Story) -> anyhow::Result<()> {
        let seconds = self.seconds();
        let processor = self.counted.take().map_or_else(|| self.processor_us(), Ok)?;
        stop(std::mem::take(&mut self.collecting)).await?;
        let audit = audit::receipts(self.place.auditor().await?.as_ref(), &self.seen).await;
        let audit = match self.place.exchange.take() {
            Some(exchange) => {
                let audit = audit?;
                exchange.stop_and_verify(match common.output {
                    Output::Human => std::process::Stdio::inherit(),
                    Output::Json => std::io::stderr().into(),
                })?;
                audit
            }
            None => audit.unwrap_or_else(|cause| Audit::LeftOut(format!("{cause:#}"))),
        };
        drop(self.progress);
        let report =
            Report { seen: &self.seen, seconds, audit, repeats: self.repeats, memory: &self.memory, processor };
        report.tell(common, &story)
    }

    /// The processor time of each part, in microseconds a message.
    fn processor_us(&self) -> anyhow::Result<BTreeMap<&'static str, f64>> {
        let (Some(before), Some(exchange)) = (&self.processor, &self.place.exchange) else {
            return Ok(BTreeMap::new());
        };
        let used = exchange.processor_seconds()?.into_iter();
        let messages = self.seen.came_count().max(1) as f64;
        let each = |(part, used)| (part, (used - before.get(part).copied().unwrap_or_default()) * 1e6 / messages);
        Ok(used.map(each).collect())
    }
}

const fn is_repeated(planned: &Planned) -> bool {
    planned.number.is_multiple_of(REPEATED)
}

async fn stop(collecting: Vec<Collecting>) -> anyhow::Result<()> {
    for collecting in &collecting {
        collecting.stop.cancel();
    }
    for collecting in collecting {
        collecting.task.await?.with_context(|| format!("the collector of {}", collecting.recipient))?;
    }
    Ok(())
}

async fn collect(
    client: Client,
    settings: CollectorSettings,
    material: Arc<Material>,
    seen: Arc<Seen>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut collector = client.collector(settings, &stop);
    while let Some(collected) = collector.next().await {
        match seen.take(&collected.delivery, &material)? {
            // That it is confirmed the collector sees to.
            Whose::Ours => drop(collected.lease.accept()),
            // Dropped, it is given back.
            Whose::Foreign => drop(collected.lease),
        }
    }
    collector.close().await?;
    Ok(())
}

/// What a sender needs.
struct Sending {
    keys: ReceiptKeys,
    plan: Arc<Plan>,
    material: Arc<Material>,
    seen: Arc<Seen>,
}

impl Sending {
    async fn run(self, client: Client, partner: &'static str, is_among: fn(&Planned) -> bool) -> anyhow::Result<()> {
        let (sender, outcomes) = client.sender(self.keys, SenderSettings::default());
        let settling = tokio::spawn(settle(outcomes, Arc::clone(&self.seen)));
        for planned in self.plan.of(partner).iter().filter(|planned| is_among(planned)) {
            if let Some(at) = planned.at {
                tokio::time::sleep_until((self.seen.began + at).into()).await;
            }
            let message = self.material.message(planned);
            self.seen.intend(planned.number, planned.at);
            sender.send(message).await?;
        }
        sender.close().await?;
        settling.await?
    }
}

async fn settle(mut outcomes: Outcomes, seen: Arc<Seen>) -> anyhow::Result<()> {
    while let Some(outcome) = outcomes.next().await {
        seen.settle(outcome)?;
    }
    Ok(())
}
