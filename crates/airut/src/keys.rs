//! `airut keys`: the keys that bodies are sealed with, those that wrap them, and those of pseudonyms.
//!
//! Works on the files and the store that a process has, while it runs.

use std::path::PathBuf;

use airut_domain::{
    id::KeyId,
    time::{Date, format_date, parse_date},
};
use airut_exchange::World;
use airut_log::{EdgeRing, KeyRing, RotationError, SUBJECT_YEARS};
use airut_store::{EraseOutcome, Family, KeyError, KeyStatus, KeyStore, Objects, Rewrapped, Settings as StoreSettings};
use anyhow::{Context, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use crate::{
    config,
    dev::Layout,
    terminal::{Exit, Output, fault, print},
};

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What keys there are: of bodies, by what they seal; wrapping keys; years of pseudonyms.
    Status(Place),
    /// Replace the wrapping key, step by step, while everything runs.
    #[command(subcommand)]
    Rotate(Rotate),
    /// Wrap every data key under the active wrapping key. May be run again at any time.
    Rewrap(Place),
    /// Erase data keys for good: nobody reads any more what they seal.
    Erase(Erase),
    /// Destroy a year's key of pseudonyms: in a gateway's ring once it is not needed to make any, in the ledger's file after
    /// twelve years.
    ForgetYear(ForgetYear),
}

/// The steps of replacing the wrapping key: add, give the ring's file to every process, activate, rewrap, remove.
#[derive(Debug, Subcommand)]
pub(crate) enum Rotate {
    /// Add a new wrapping key to the ring's file, which wraps nothing yet. Running processes have it within two seconds.
    Add(Place),
    /// Make a wrapping key the one that wraps what is new, once every process has it.
    Activate(Wrapping),
    /// Remove a wrapping key that wraps nothing any more.
    Remove(Wrapping),
}

/// Whose keys.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// The data directory of `airut dev`.
    #[arg(long, value_name = "DIR", default_value = "airut-data")]
    data: PathBuf,
    /// The configuration of a process, instead of a data directory.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    config: Option<PathBuf>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Options of `airut keys rotate activate` and `remove`.
#[derive(Debug, Args)]
pub(crate) struct Wrapping {
    #[command(flatten)]
    place: Place,
    /// The wrapping key's id, such as wrapping-2.
    id: KeyId,
}

/// Options of `airut keys erase`.
#[derive(Debug, Args)]
pub(crate) struct Erase {
    #[command(flatten)]
    place: Place,
    /// A data key's id, such as message/2026-11-27/pirkanmaa.
    #[arg(required_unless_present = "family", conflicts_with = "family")]
    id: Option<KeyId>,
    /// Erase keys of a family by their day, instead.
    #[arg(long, value_enum, requires = "before")]
    family: Option<FamilyName>,
    /// The first day whose keys stay.
    #[arg(long, value_name = "DATE", requires = "family", value_parser = date)]
    before: Option<Date>,
    /// Erase even keys of today or later. What they are to seal is refused until the day is over.
    #[arg(long)]
    even_today: bool,
}

/// Options of `airut keys forget-year`.
#[derive(Debug, Args)]
pub(crate) struct ForgetYear {
    #[command(flatten)]
    place: Place,
    /// The year.
    year: i32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FamilyName {
    Message,
    Query,
    Request,
    Document,
}

impl From<FamilyName> for Family {
    fn from(name: FamilyName) -> Self {
        match name {
            FamilyName::Message => Self::Message,
            FamilyName::Query => Self::Query,
            FamilyName::Request => Self::Request,
            FamilyName::Document => Self::Document,
        }
    }
}

type Outcome<T> = Result<T, (Exit, anyhow::Error)>;

/// A result, for people and for programs.
struct Told {
    text: String,
    json: Value,
}

pub(crate) async fn run(command: &Command) -> Outcome<()> {
    let (place, told) = match command {
        Command::Status(place) => (place, status(place).await?),
        Command::Rotate(Rotate::Add(place)) => (place, add(place)?),
        Command::Rotate(Rotate::Activate(options)) => (&options.place, activate(options)?),
        Command::Rotate(Rotate::Remove(options)) => (&options.place, remove(options).await?),
        Command::Rewrap(place) => (place, rewrap(place).await?),
        Command::Erase(options) => (&options.place, erase(options).await?),
        Command::ForgetYear(options) => (&options.place, forget_year(options)?),
    };
    match place.output {
        Output::Text => print(told.text),
        Output::Json => print(told.json),
    }
    .map_err(fault)
}

/// The files and the store of a place.
struct Files {
    ring: PathBuf,
    edge: PathBuf,
    store: StoreSettings,
}

impl Place {
    fn files(&self) -> Outcome<Files> {
        let Some(path) = &self.config else {
            let layout = Layout::at(&self.data);
            let (ring, edge) = (layout.ring(), layout.edge_ring());
            return Ok(Files { ring, edge, store: StoreSettings::local(layout.objects()) });
        };
        let config = config::load(Some(path), std::env::vars(), &[]);
        let config = config.map_err(|faults| (Exit::Usage, anyhow::Error::new(faults)))?;
        Ok(Files { ring: config.keys.ring, edge: config.keys.edge, store: config.store })
    }
}

impl Files {
    fn ring(&self) -> Outcome<KeyRing> {
        KeyRing::load(&self.ring).context("keys.ring").map_err(usage)
    }

    fn keys(&self, ring: &KeyRing) -> Outcome<KeyStore> {
        let world = World::system();
        let objects = Objects::open(&self.store).context("store").map_err(usage)?;
        Ok(KeyStore::new(objects, ring.wrapping(), world.clock().clone(), world.randomness().clone()))
    }

    fn save(&self, ring: &KeyRing) -> Outcome<()> {
        ring.save(&self.ring).context("keys.ring").map_err(fault)
    }
}

async fn status(place: &Place) -> Outcome<Told> {
    let files = place.files()?;
    let ring = files.ring()?;
    let edge = EdgeRing::load(&files.edge).ok();
    let status = files.keys(&ring)?.status().await.map_err(unavailable)?;
    let wrapping = ring.wrapping();
    let years: Vec<i32> = ring.years().collect();
    let ledger: Option<Vec<i32>> = edge.map(|edge| edge.years().collect());
    let families: Vec<Value> = Family::ALL.iter().map(|family| family_json(*family, &status)).collect();
    let mut keys: Vec<Value> = wrapping.ids().map(|id| wrapping_json(id, wrapping.active(), &status)).collect();
    let known: Vec<&KeyId> = wrapping.ids().collect();
    let unknown: Vec<&KeyId> = status.wrapped_by.keys().filter(|id| !known.contains(id)).collect();
    keys.extend(unknown.iter().map(
        |id| json!({"id": id.as_str(), "active": false, "in_the_ring": false, "data_keys": status.wrapped_by[*id]}),
    ));
    let unreadable: Vec<&str> = status.unreadable_ids.iter().map(KeyId::as_str).collect();
    let text = [
        table(&["family", "keys", "erased", "oldest", "newest"], &families),
        table(&["wrapping key", "active", "in the ring", "data keys"], &keys),
        format!("years of pseudonyms in the ring: {}", span(&years)),
        format!("in the ledger's file: {}", ledger.as_deref().map_or("there is none here".to_owned(), span)),
        match status.unreadable {
            0 => String::new(),
            count => format!("{count} objects are no keys: {}", unreadable.join(", ")),
        },
    ];
    let text = text.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
    let json = json!({
        "families": families,
        "wrapping_keys": keys,
        "unreadable": status.unreadable,
        "unreadable_ids": unreadable,
        "years": years,
        "ledger_years": ledger,
    });
    Ok(Told { text, json })
}

fn add(place: &Place) -> Outcome<Told> {
    let files = place.files()?;
    let mut ring = files.ring()?;
    let id = ring.add_wrapping_key(World::system().randomness());
    files.save(&ring)?;
    Ok(Told {
        text: format!(
            "{id} is in {}, not active yet\nnext: give this file to every gateway, wait until each has read it (2 s), then \
             airut keys rotate activate {id}",
            files.ring.display()
        ),
        json: json!({"id": id.as_str(), "active": false}),
    })
}

fn activate(options: &Wrapping) -> Outcome<Told> {
    let (files, id) = (options.place.files()?, &options.id);
    let mut ring = files.ring()?;
    ring.activate_wrapping_key(id).map_err(refused_rotation)?;
    files.save(&ring)?;
    Ok(Told {
        text: format!(
            "{id} is active in {}\nnext: give this file to every gateway, wait until each has read it (2 s), then airut keys rewrap",
            files.ring.display()
        ),
        json: json!({"id": id.as_str(), "active": true}),
    })
}

async fn remove(options: &Wrapping) -> Outcome<Told> {
    let (files, id) = (options.place.files()?, &options.id);
    let mut ring = files.ring()?;
    let status = files.keys(&ring)?.status().await.map_err(unavailable)?;
    ring.remove_wrapping_key(id).map_err(refused_rotation)?;
    if let Some(count) = status.wrapped_by.get(id) {
        return Err((Exit::Refused, anyhow!("{count} data keys are under {id}: airut keys rewrap first")));
    }
    files.save(&ring)?;
    Ok(Told {
        text: format!("{id} is no longer in {}\nnext: give this file to every gateway", files.ring.display()),
        json: json!({"id": id.as_str(), "removed": true}),
    })
}

async fn rewrap(place: &Place) -> Outcome<Told> {
    let files = place.files()?;
    let ring = files.ring()?;
    let Rewrapped { rewrapped, already, erased, changed, unreadable, unreadable_ids } =
        files.keys(&ring)?.rewrap().await.map_err(unavailable)?;
    let ids: Vec<&str> = unreadable_ids.iter().map(KeyId::as_str).collect();
    if unreadable > 0 {
        let fault = format!("{unreadable} data keys can not be unwrapped with this ring: {}", ids.join(", "));
        return Err((Exit::NotVerified, anyhow!(fault)));
    }
    let active = ring.wrapping().active().to_string();
    Ok(Told {
        text: format!(
            "{rewrapped} data keys are now under {active}, {already} were; {erased} are erased, {changed} were changed by others meanwhile"
        ),
        json: json!({
            "active": active, "rewrapped": rewrapped, "already": already, "erased": erased, "changed": changed,
        }),
    })
}

async fn erase(options: &Erase) -> Outcome<Told> {
    let files = options.place.files()?;
    let keys = files.keys(&files.ring()?)?;
    let today = keys.today();
    let refuse = |what: &str| {
        let fault =
            anyhow!("{what} is in use: what it is to seal would be refused until the day is over (--even-today)");
        Err((Exit::Refused, fault))
    };
    if let (Some(family), Some(before)) = (options.family, options.before) {
        if before > today && !options.even_today {
            return refuse(&format!("the key of {}", format_date(today)));
        }
        let erased = keys.erase_before(family.into(), before).await.map_err(unavailable)?.keys;
        let text = format!("{erased} keys of before {} are erased", format_date(before));
        return Ok(Told { text, json: json!({"erased": erased}) });
    }
    let id = options.id.as_ref().ok_or_else(|| (Exit::Usage, anyhow!("an id, or --family and --before")))?;
    let day = id.as_str().split('/').nth(1).and_then(parse_date);
    if day.is_some_and(|day| day >= today) && !options.even_today {
        return refuse(id.as_str());
    }
    match keys.erase(id).await.map_err(unavailable)? {
        EraseOutcome::Erased => {
            let text = format!("{id} is erased; running processes stop opening with it within a minute");
            Ok(Told { text, json: json!({"erased": 1}) })
        }
        EraseOutcome::Already(at) => Ok(Told { text: format!("{id} was erased {at}"), json: json!({"erased": 0}) }),
        EraseOutcome::Missing => Err((Exit::Refused, anyhow!("there is no data key {id}"))),
    }
}

fn forget_year(options: &ForgetYear) -> Outcome<Told> {
    let (files, year) = (options.place.files()?, options.year);
    let this_year = World::system().now().date().year();
    if year >= this_year - 1 {
        let fault = anyhow!("{year} is needed: gateways make pseudonyms of last year, this year and the coming ones");
        return Err((Exit::Refused, fault));
    }
    let mut told = Vec::new();
    let mut in_ring = false;
    if files.ring.exists() {
        let mut ring = files.ring()?;
        in_ring = ring.forget_year(year);
        if in_ring {
            files.save(&ring)?;
        }
        told.push(if in_ring { "the ring: forgotten".to_owned() } else { "the ring: not there".to_owned() });
    }
    let mut in_ledger = false;
    if files.edge.exists() {
        let mut edge = EdgeRing::load(&files.edge).context("keys.edge").map_err(usage)?;
        let last_needed = year + SUBJECT_YEARS;
        if this_year <= last_needed {
            told.push(format!("the ledger's file: kept to the end of {last_needed}, as the log law asks"));
        } else {
            in_ledger = edge.forget_year(year);
            if in_ledger {
                edge.save(&files.edge).context("keys.edge").map_err(fault)?;
            }
            told.push(format!("the ledger's file: {}", if in_ledger { "forgotten" } else { "not there" }));
        }
    }
    let json = json!({"year": year, "forgotten_in_the_ring": in_ring, "forgotten_in_the_ledger": in_ledger});
    Ok(Told { text: told.join("\n"), json })
}

fn family_json(family: Family, status: &KeyStatus) -> Value {
    let of = status.families.get(&family).copied().unwrap_or_default();
    json!({
        "family": family.name(),
        "keys": of.keys,
        "erased": of.erased,
        "oldest": of.oldest.map(format_date),
        "newest": of.newest.map(format_date),
    })
}

fn wrapping_json(id: &KeyId, active: &KeyId, status: &KeyStatus) -> Value {
    let count = status.wrapped_by.get(id).copied().unwrap_or(0);
    json!({"id": id.as_str(), "active": id == active, "in_the_ring": true, "data_keys": count})
}

/// The values of each row, under these headings.
fn table(headings: &[&str], rows: &[Value]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings);
    for row in rows {
        let fields = headings.iter().map(|heading| match *heading {
            "wrapping key" => "id".to_owned(),
            heading => heading.replace(' ', "_"),
        });
        table.add_row(fields.map(|field| match &row[field.as_str()] {
            Value::String(text) => text.clone(),
            Value::Bool(true) => "yes".to_owned(),
            Value::Bool(false) | Value::Null => String::new(),
            other @ (Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
        }));
    }
    table.to_string()
}

/// `2025 to 2036`, or each by itself where some are missing.
fn span(years: &[i32]) -> String {
    match years {
        [] => "none".to_owned(),
        [first, .., last] if usize::try_from(last - first + 1).is_ok_and(|count| count == years.len()) => {
            format!("{first} to {last}")
        }
        some => some.iter().map(i32::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn date(text: &str) -> Result<Date, String> {
    parse_date(text).ok_or_else(|| "must be a date such as 2026-11-27".to_owned())
}

fn usage(cause: anyhow::Error) -> (Exit, anyhow::Error) {
    (Exit::Usage, cause)
}

fn unavailable(cause: KeyError) -> (Exit, anyhow::Error) {
    (Exit::Unavailable, cause.into())
}

fn refused_rotation(cause: RotationError) -> (Exit, anyhow::Error) {
    (Exit::Refused, cause.into())
}
