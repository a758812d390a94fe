//! `airut dev --once`: a query, three notices, a document and an information request from beginning to end, told so that a case worker would understand.

mod question;

mod notices;

mod documents;

mod requests;

use std::time::Duration;

use airut_domain::id::PartnerId;
use anyhow::{Context, ensure};

use crate::{
    caller,
    dev::{Layout, Options, register_connected},
    node::Node,
    serve,
    terminal::{Exit, fault, say},
    verify,
};

/// Whoever waits in the story waits no longer than this.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn run(options: &Options) -> Result<(), (Exit, anyhow::Error)> {
    let layout = Layout::prepare_with_magic(&options.data).map_err(fault)?;
    let config = layout.config(options);
    let telemetry = serve::start_telemetry(&config).map_err(fault)?;
    let node = Node::start(&config).await.map_err(fault)?;
    let told = tell(&layout, &node).await;
    node.stop().await;
    telemetry.flush();
    told.map_err(fault)?;
    say("\n14 The exchange is stopped, and its whole log is verified from the files alone");
    verify::verify(layout.dir()).await
}

async fn tell(layout: &Layout, node: &Node) -> anyhow::Result<()> {
    let server = node.address.expect("a gateway is among the roles").to_string();
    let client = async |name: &str| {
        let partner = name.parse::<PartnerId>().context("partner")?;
        caller::client(&server, layout.dir(), &partner).await
    };
    let (kela, pirkanmaa, helsinki) = (client("kela").await?, client("pirkanmaa").await?, client("helsinki").await?);
    let stranger = client("pension-provider").await?;
    let subjects = std::fs::read_to_string(layout.dir().join("persons.txt"))?;
    let subject = subjects.lines().next().context("persons.txt is empty")?;
    ensure!(register_connected(node, PATIENCE).await, "the register did not connect");

    say(
        "Airut: the story of one query, three notices, a document and an information request. Every person in it is synthetic.\n",
    );
    question::tell(layout.dir(), &pirkanmaa, &stranger, subject).await?;
    let parties = notices::Parties { kela: kela.clone(), pirkanmaa: pirkanmaa.clone(), helsinki: helsinki.clone() };
    notices::tell(layout.dir(), &parties, subject).await?;
    documents::tell(layout.dir(), &pirkanmaa, &kela, &stranger, subject).await?;
    say("\n13 Kela asks for what it needs to decide");
    let parties = requests::Parties { kela: &kela, pirkanmaa: &pirkanmaa, helsinki: &helsinki };
    requests::tell(&parties, subject).await
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("   {line}")).collect::<Vec<_>>().join("\n")
}
