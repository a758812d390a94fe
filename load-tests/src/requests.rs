//! The requests scenario: what a page of a list costs when there are few information requests and when there are a million, most of them closed.
//!
//! The log is filled past the gateway: a request is as good as put when its record is there, and ten times as quickly. Lists show nothing of
//! what was said, so the records have no bodies. What is measured is asked over the public API.

use std::{path::Path, sync::Arc, time::Instant};

use airut_client::{Client, Settings};
use airut_domain::{
    id::PartnerId,
    keys::Digest,
    partition::Topic,
    query::Access,
    request::{Action, Command, Created, RequestKey, RequestKind},
    time::Date,
    working_day,
};
use airut_log::{Clock, Embedded, HeaderWriter, KeyRing, Log, Random};
use airut_wire::v1::{self, InformationRequestState as State};
use anyhow::{Context, ensure};
use serde_json::json;

use crate::{
    exchange,
    measure::{Measured, Until, closed_loop},
    process::Process,
};

/// The process that is asked.
const ROLES: &str = "gateway";

/// Records being appended at once.
const FILLING: usize = 2_000;

/// As many requests a page has.
const PAGE: i32 = 50;

/// Who is asked.
const COUNTIES: [&str; 4] = ["pirkanmaa", "helsinki", "pohjois-pohjanmaa", "varsinais-suomi"];

/// Requests of one record each, and of three.
const OPEN: u64 = 50_000;

/// Options of the requests scenario.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Requests in all; all but fifty thousand are closed.
    #[arg(long, default_value_t = 1_000_000)]
    requests: u64,
    /// Pages of each list that are asked for.
    #[arg(long, default_value_t = 2_000)]
    pages: u64,
}

/// Runs the scenario.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(options.requests > OPEN, "--requests: must be more than {OPEN}");
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    exchange::lay_out(&data)?;
    let log = format!("path = '{}'\n", data.join("log.sqlite").display());
    let configuration = exchange::configuration(&data, (ROLES, ROLES), &log, "127.0.0.1:0", "")?;
    // The partners' definitions come first.
    exchange::serve(&configuration)?.stop()?;

    fill(&data, 0..OPEN, Life::Open).await?;
    let few = measure(&configuration, &data, options.pages, OPEN).await?;
    fill(&data, OPEN..options.requests, Life::Closed).await?;
    let many = measure(&configuration, &data, options.pages, options.requests).await?;
    println!(
        "{}",
        json!({
            "requests": options.requests, "open": OPEN, "page": PAGE,
            "few_p50_ms": few.within_ms(0.5), "few_p99_ms": few.within_ms(0.99),
            "many_p50_ms": many.within_ms(0.5), "many_p99_ms": many.within_ms(0.99),
            "ratio_p50": many.within_ms(0.5) / few.within_ms(0.5),
            "ratio_p99": many.within_ms(0.99) / few.within_ms(0.99),
        })
    );
    Ok(())
}

#[derive(Clone, Copy)]
enum Life {
    Open,
    Closed,
}

/// Appends the records of requests.
struct Filler {
    writer: HeaderWriter,
    ring: KeyRing,
    today: Date,
    life: Life,
}

async fn fill(data: &Path, numbers: std::ops::Range<u64>, life: Life) -> anyhow::Result<()> {
    let began = Instant::now();
    let log = Log::embedded(Embedded::at(data.join("log.sqlite"), Clock::system(), Random::system()))?;
    let author = "filler".parse().context("a process's name")?;
    let filler = Arc::new(Filler {
        writer: HeaderWriter::new(log, author, Random::system()),
        ring: KeyRing::load(data.join("keys/ring.toml"))?,
        today: working_day::today(Clock::system().now()),
        life,
    });
    let (first, count) = (numbers.start, numbers.end - numbers.start);
    let putting = Arc::clone(&filler);
    let put = move |number| {
        let filler = Arc::clone(&putting);
        async move { filler.put(first + number).await.is_ok() }
    };
    let filled = closed_loop(FILLING, Until::Calls(count), put).await?;
    ensure!(filled.failed == 0, "{} requests could not be put", filled.failed);
    println!("{count} requests put after {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

impl Filler {
    async fn put(&self, number: u64) -> anyhow::Result<()> {
        let requester: PartnerId = "kela".parse()?;
        let key = RequestKey { requester: requester.clone(), request_id: format!("r-{number}").parse()? };
        let parts = [key.requester.as_str().as_bytes(), key.request_id.as_str().as_bytes()];
        let partition = self.ring.partition_of(Topic::Requests, &parts);
        let responder: PartnerId = COUNTIES[usize::try_from(number)? % COUNTIES.len()].parse()?;
        let person = Digest::of(&(number / 3).to_be_bytes());
        let access = Access {
            purpose: "social-assistance".parse()?,
            legal_basis: "1412/1997".parse()?,
            contract_version: 1,
            subject: person,
            subject_key: format!("subject-{}", self.today.year()).parse()?,
            end_user: person,
            case: person,
        };
        // Spread over three months of due dates to come.
        let due = working_day::after(self.today, 1 + u16::try_from(number * 7919 % 60)?);
        let created = Created {
            key: key.clone(),
            responder: responder.clone(),
            kind: RequestKind::Statement,
            due,
            fingerprint: person,
            access: access.clone(),
        };
        self.writer.append(partition, created, "").await?;
        if matches!(self.life, Life::Open) {
            return Ok(());
        }
        for (by, command_id, action) in
            [(responder, "a", Action::Respond { documents: Vec::new() }), (requester, "b", Action::Close)]
        {
            let command = Command {
                key: key.clone(),
                by,
                command_id: command_id.parse()?,
                fingerprint: person,
                expected: None,
                access: access.clone(),
                action,
            };
            self.writer.append(partition, command, "").await?;
        }
        Ok(())
    }
}

/// Starts the gateway and asks for pages of several lists in turn.
async fn measure(configuration: &Path, data: &Path, pages: u64, requests: u64) -> anyhow::Result<Measured> {
    let began = Instant::now();
    let process = exchange::serve(configuration)?;
    println!(
        "{requests} requests: serves after {:.1} s, with {} MiB in memory",
        began.elapsed().as_secs_f64(),
        process.resident_mib()?
    );
    let kela = client(&process, data, "kela").await?;
    let county = client(&process, data, "helsinki").await?;
    let open = || v1::ListInformationRequestsRequest {
        states: vec![State::Open.into(), State::Returned.into()],
        page_size: PAGE,
        ..v1::ListInformationRequestsRequest::default()
    };
    // A page from the middle of the list.
    let deadline = std::time::Duration::from_secs(60);
    let mut middle = open();
    for _ in 0..20 {
        let longer = v1::ListInformationRequestsRequest { page_size: 1000, ..middle.clone() };
        middle.page_token = kela.list_information_requests(&longer, deadline).await?.next_page_token;
    }
    let lists = [
        (kela.clone(), open()),
        (kela.clone(), middle),
        (kela.clone(), v1::ListInformationRequestsRequest { partner: "helsinki".into(), ..open() }),
        (county.clone(), open()),
        (county, v1::ListInformationRequestsRequest { states: Vec::new(), ..open() }),
    ];
    let lists = Arc::new(lists);
    let ask = move |number: u64| {
        let lists = Arc::clone(&lists);
        async move {
            let (client, request) = &lists[usize::try_from(number).unwrap_or(0) % lists.len()];
            let listed = client.list_information_requests(request, deadline).await;
            listed.is_ok_and(|page| page.information_requests.len() == usize::try_from(PAGE).unwrap_or(0))
        }
    };
    closed_loop(1, Until::Calls(100), ask.clone()).await?;
    let measured = closed_loop(1, Until::Calls(pages), ask).await?;
    ensure!(measured.failed == 0, "{} pages are not what they should be", measured.failed);
    println!(
        "{requests} requests: a page of {PAGE} within {:.2} ms at p50, {:.2} ms at p99; {} MiB in memory",
        measured.within_ms(0.5),
        measured.within_ms(0.99),
        process.resident_mib()?
    );
    process.stop()?;
    Ok(measured)
}

async fn client(process: &Process, data: &Path, partner: &str) -> anyhow::Result<Client> {
    let pki = data.join("pki");
    let (certificate, key) = (pki.join(format!("{partner}.crt")), pki.join(format!("{partner}.key")));
    Ok(Client::connect(&Settings::new(process.address.clone(), pki.join("ca.crt"), certificate, key)).await?)
}
