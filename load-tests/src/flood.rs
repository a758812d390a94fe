//! The flood scenario: one partner sends as fast as the connection takes it, far past its quota, and sends what was refused again at
//! once; the others go on at their pace, and their latency is compared with a phase before.
//!
//! What was accepted of the flood is checked like any message. The library's sender waits when it is told to; a partner gone wild
//! does not, so it is the bare call that floods.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::Path,
    sync::Arc,
    time::Duration,
};

use airut_client::{Client, ReceiptKeys, verify_message_receipt};
use airut_wire::v1::{
    SendRequest, SendStreamRequest, SendStreamResponse, delivery_service_client::DeliveryServiceClient,
    send_stream_response::Outcome,
};
use anyhow::{Context, ensure};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::{
    exchange::Shape,
    flows::{FLOWS, Material},
    open_loop::OpenLoop,
    options::Common,
    place::Place,
    plan::{Plan, Planned},
    report::Story,
    run::Run,
    seen::Seen,
};

/// Who floods, with its only flow, to a recipient whom others send to as well.
const FLOODER: &str = "kanta";

/// Messages without an outcome at once.
const IN_FLIGHT: usize = 4096;

/// How long the last outcomes may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Options of the flood scenario.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Seconds of each of the two phases.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// What the partner that floods may send, in messages a second; with --target, what its definition there says.
    #[arg(long, default_value_t = 200)]
    quota: u32,
    #[command(flatten)]
    open_loop: OpenLoop,
    #[command(flatten)]
    common: Common,
}

/// Runs the scenario.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let Options { seconds, quota, open_loop, common } = options;
    let place = Place::of(common, Shape::plain(common.engine), |data| limit(data, *quota))?;
    let paced = open_loop.paced(common.seed(), 2.0 * seconds);
    let plan = Plan::new(paced.messages, Some(paced.schedule), |flow| flow.from != FLOODER)?;
    let planned = plan.len() as u64;
    // A quota allows a burst: twice the time, and some, is more than is accepted.
    let unplanned = usize::try_from(*quota)? * (2 * *seconds as usize + 20) + IN_FLIGHT;
    let mut run = Run::begin(common, place, plan, unplanned).await?;
    let [quiet, flooded] = open_loop.compared(*seconds, "flood");

    run.until(Duration::from_secs_f64(flooded.from)).await?;
    let stop = CancellationToken::new();
    let flood = Flood {
        keys: run.place.receipt_keys()?,
        material: run.material(),
        seen: Arc::clone(&run.seen),
        flow: FLOWS.iter().position(|flow| flow.from == FLOODER).context("the flow that floods")?,
        numbers: planned..planned + unplanned as u64,
        again: VecDeque::new(),
        in_flight: BTreeMap::new(),
        told: Told::default(),
    };
    let flooding = tokio::spawn(flood.run(run.place.client(FLOODER, 0).await?, stop.clone()));
    run.until(Duration::from_secs_f64(flooded.to)).await?;
    stop.cancel();
    let told = flooding.await??;
    run.until_all_came().await?;

    let mut story = Story { phases: vec![quiet, flooded], whose: |flow| flow.from != FLOODER, ..Story::of("flood") };
    paced.tell(&mut story);
    let Told { sent, accepted, refused } = told;
    story.lines.push(format!("the flood: {sent} sent, {accepted} accepted, {refused} refused for its quota"));
    story.fields.insert("flood".to_owned(), json!({ "sent": sent, "accepted": accepted, "refused": refused }));
    run.finish(common, story).await
}

/// Has the partner's definition allow no more than this a second.
fn limit(data: &Path, quota: u32) -> anyhow::Result<()> {
    let path = data.join(format!("partners/{FLOODER}.toml"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (before, after) = text.split_once("\nmessages-per-second = ").context("the partner has a quota")?;
    let (_, after) = after.split_once('\n').unwrap_or_default();
    fs::write(&path, format!("{before}\nmessages-per-second = {quota}\n{after}"))?;
    Ok(())
}

/// What the flood was told.
#[derive(Debug, Default)]
struct Told {
    sent: u64,
    accepted: u64,
    refused: u64,
}

/// A partner gone wild.
struct Flood {
    keys: ReceiptKeys,
    material: Arc<Material>,
    seen: Arc<Seen>,
    flow: usize,
    /// New messages.
    numbers: std::ops::Range<u64>,
    /// Refused: sent again before anything new.
    again: VecDeque<SendRequest>,
    /// Without an outcome, by id.
    in_flight: BTreeMap<String, SendRequest>,
    told: Told,
}

impl Flood {
    /// Floods until told to stop, then hears what became of the rest.
    async fn run(mut self, client: Client, stop: CancellationToken) -> anyhow::Result<Told> {
        let (requests, outgoing) = mpsc::channel(64);
        let mut service = DeliveryServiceClient::new(client.channel());
        let mut outcomes = service.send_stream(ReceiverStream::new(outgoing)).await?.into_inner();
        while !stop.is_cancelled() {
            let next = if self.in_flight.len() < IN_FLIGHT { self.next() } else { None };
            tokio::select! {
                place = requests.reserve(), if next.is_some() => {
                    let Some(message) = next else { continue };
                    place.context("the stream of the flood was closed")?.send(SendStreamRequest { message: Some(message.clone()) });
                    self.told.sent += 1;
                    self.in_flight.insert(message.message_id.clone(), message);
                }
                told = outcomes.message() => {
                    self.again.extend(next);
                    self.hear(told?.context("the stream of the flood was ended")?)?;
                }
                () = stop.cancelled() => {}
            }
        }
        drop(requests);
        tokio::time::timeout(PATIENCE, self.hear_out(&mut outcomes)).await.context("the flood's last outcomes")??;
        ensure!(self.in_flight.is_empty(), "{} messages of the flood have no outcome", self.in_flight.len());
        Ok(self.told)
    }

    fn next(&mut self) -> Option<SendRequest> {
        self.again.pop_front().or_else(|| {
            let number = self.numbers.next()?;
            let person = usize::try_from(number).ok()?;
            let message = self.material.message(&Planned { number, flow: self.flow, person, at: None });
            self.seen.intend(number, None);
            // Without a key: one that is refused holds up no other.
            Some(SendRequest { ordering_key: String::new(), ..message })
        })
    }

    async fn hear_out(&mut self, outcomes: &mut Streaming<SendStreamResponse>) -> anyhow::Result<()> {
        while let Some(told) = outcomes.message().await? {
            self.hear(told)?;
        }
        Ok(())
    }

    fn hear(&mut self, told: SendStreamResponse) -> anyhow::Result<()> {
        let message = self.in_flight.remove(&told.message_id).context("an outcome for no message of the flood")?;
        match told.outcome.context("an outcome says something")? {
            Outcome::Receipt(receipt) => {
                verify_message_receipt(&receipt, &message, &self.keys)?;
                self.seen.promise(&airut_wire::receipt_from(receipt)?)?;
                self.told.accepted += 1;
            }
            Outcome::Refusal(_) => {
                self.again.push_back(message);
                self.told.refused += 1;
            }
        }
        Ok(())
    }
}
