//! The slow reader scenario: one recipient opens its stream with all its credit, and then neither reads nor settles; the others'
//! latency is compared with a phase before, and the gateway's memory told. Afterwards the recipient reads again, and gets everything.

use std::time::Duration;

use airut_client::Client;
use airut_wire::v1::{
    CollectRequest,
    collect_request::{Message, Open},
    delivery_service_client::DeliveryServiceClient,
};
use anyhow::Context;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use crate::{exchange::Shape, open_loop::OpenLoop, options::Common, place::Place, plan::Plan, report::Story, run::Run};

/// Who reads no more: a sixth of all messages are to it.
const READER: &str = "incomes-register";

/// How long it may take to open or end its stream.
const PATIENCE: Duration = Duration::from_secs(30);

/// Options of the slow reader scenario.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Seconds of each of the two phases.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    #[command(flatten)]
    open_loop: OpenLoop,
    #[command(flatten)]
    common: Common,
}

/// Runs the scenario.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let Options { seconds, open_loop, common } = options;
    let place = Place::of(common, Shape::plain(common.engine), |_| Ok(()))?;
    let paced = open_loop.paced(common.seed(), 2.0 * seconds);
    let plan = Plan::new(paced.messages, Some(paced.schedule), |_| true)?;
    let mut run = Run::begin(common, place, plan, 0).await?;
    let [quiet, slow] = open_loop.compared(*seconds, "slow reader");

    run.until(Duration::from_secs_f64(slow.from)).await?;
    run.stop_collecting(READER).await?;
    let mut holding = Vec::new();
    for gateway in 0..run.place.addresses.len() {
        holding.push(Holding::begin(&run.place.client(READER, gateway).await?, common.credit).await?);
    }
    run.until(Duration::from_secs_f64(slow.to)).await?;
    let held = run.seen.outstanding();
    for holding in holding {
        holding.end().await?;
    }
    run.collect(READER).await?;
    run.until_all_came().await?;

    let mut story = Story { phases: vec![quiet, slow], whose: |flow| flow.to != READER, ..Story::of("slow-reader") };
    paced.tell(&mut story);
    story
        .lines
        .push(format!("{READER} read nothing for {seconds} s, when {held} messages waited; then it got them all"));
    story.fields.insert("held".to_owned(), json!(held));
    run.finish(common, story).await
}

/// A stream of which nothing is read. The library's collector would read on: so this is the bare call.
struct Holding {
    end: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Holding {
    async fn begin(client: &Client, credit: u32) -> anyhow::Result<Self> {
        let (says, said) = mpsc::channel(1);
        let open = Message::Open(Open { credit: i32::try_from(credit)?, ..Open::default() });
        says.send(CollectRequest { message: Some(open) }).await?;
        let mut service = DeliveryServiceClient::new(client.channel());
        let opening = service.collect(ReceiverStream::new(said));
        let unread = tokio::time::timeout(PATIENCE, opening).await.context("a stream opens")??;
        let (end, ended) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            drop(ended.await);
            drop((says, unread));
        });
        Ok(Self { end, task })
    }

    /// Leaves without a word.
    async fn end(self) -> anyhow::Result<()> {
        drop(self.end);
        Ok(self.task.await?)
    }
}
