//! The options of `airut request`.

use std::path::PathBuf;

use airut_domain::{
    id::PartnerId,
    time::{Date, parse_date},
};
use airut_wire::v1::{self, InformationRequestKind as PbKind, InformationRequestState as PbState};
use anyhow::anyhow;
use clap::{Args, Subcommand, ValueEnum};

use crate::caller::{Caller, Reason};

/// What can be done with information requests. Texts are read from files or standard input: arguments show in the list of processes.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Put a request to a partner.
    Create(Create),
    /// List one's requests by due date: those one has put, and those put to one.
    List(List),
    /// Show a request with all that was said. That it was shown is on record.
    Show(Show),
    /// Answer a request.
    Respond(Respond),
    /// Return an answered request for completion.
    Return(Return),
    /// Close an answered request.
    Close(Remark),
    /// Pass a request on to the partner it should have gone to.
    Transfer(Transfer),
    /// Cancel a request.
    Cancel(Remark),
    /// Tell of changes of one's requests as they come.
    Watch(Watch),
}

/// Which request, and who does something to it.
#[derive(Debug, Args)]
pub(crate) struct Which {
    #[command(flatten)]
    pub(super) caller: Caller,
    #[command(flatten)]
    pub(super) reason: Reason,
    /// The request's id.
    pub(super) request_id: String,
    /// Who has put it; the caller when not given.
    #[arg(long, value_name = "PARTNER")]
    pub(super) requester: Option<PartnerId>,
}

/// What every command but showing has.
#[derive(Debug, Args)]
pub(crate) struct Doing {
    #[command(flatten)]
    pub(super) which: Which,
    /// The id of what is done; a new one when not given. The same with the same id is done once.
    #[arg(long, value_name = "ID")]
    pub(super) command_id: Option<String>,
    /// The version that it is done to: with another one nothing is done.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(super) expected_version: i32,
}

/// Whom to ask about it.
#[derive(Debug, Args)]
pub(crate) struct Contact {
    /// The unit to ask about it by telephone.
    #[arg(long, default_value = "")]
    pub(super) unit: String,
    /// Its telephone number.
    #[arg(long, default_value = "")]
    pub(super) telephone: String,
}

/// Options of `airut request create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    pub(super) caller: Caller,
    #[command(flatten)]
    pub(super) reason: Reason,
    #[command(flatten)]
    pub(super) contact: Contact,
    /// Who is to answer.
    #[arg(long, value_name = "PARTNER")]
    pub(super) to: PartnerId,
    /// What is asked for.
    #[arg(long, value_enum)]
    pub(super) kind: Kind,
    /// Read whom it is about from the first line of standard input, before a text that is read from there too.
    #[arg(long, required = true)]
    pub(super) subject_stdin: bool,
    /// The question; - for standard input.
    #[arg(long, value_name = "FILE")]
    pub(super) text_file: PathBuf,
    /// What the other should know to answer it.
    #[arg(long, value_name = "FILE")]
    pub(super) background_file: Option<PathBuf>,
    /// When the answer is due, such as 2026-12-04: a working day. Seven working days ahead when not given.
    #[arg(long, value_name = "DATE", value_parser = day)]
    pub(super) due: Option<Date>,
    /// The request's id; a new one when not given. The same request with the same id is put once.
    #[arg(long, value_name = "ID")]
    pub(super) request_id: Option<String>,
}

/// Options of `airut request list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(super) caller: Caller,
    #[command(flatten)]
    pub(super) reason: Reason,
    /// Only those in these states.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(super) state: Vec<State>,
    /// Only those with this other party.
    #[arg(long, value_name = "PARTNER")]
    pub(super) with: Option<PartnerId>,
    /// Only those about the person whose identity code is on standard input. That one looks for them is on record.
    #[arg(long)]
    pub(super) subject_stdin: bool,
    /// Only those due on this day or later.
    #[arg(long, value_name = "DATE", value_parser = day)]
    pub(super) due_from: Option<Date>,
    /// Only those due on this day or earlier.
    #[arg(long, value_name = "DATE", value_parser = day)]
    pub(super) due_to: Option<Date>,
    /// At most so many.
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    pub(super) limit: usize,
}

/// Options of `airut request show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(super) which: Which,
    /// Not before this place of the log is known there: the position that an earlier command printed.
    #[arg(long, value_name = "POSITION", default_value = "")]
    pub(super) min_position: String,
}

/// Options of `airut request respond`.
#[derive(Debug, Args)]
pub(crate) struct Respond {
    #[command(flatten)]
    pub(super) doing: Doing,
    #[command(flatten)]
    pub(super) contact: Contact,
    /// The answer; - for standard input.
    #[arg(long, value_name = "FILE", required_unless_present = "document")]
    pub(super) text_file: Option<PathBuf>,
    /// A document that was sent to the requester, by its id; may be repeated.
    #[arg(long, value_name = "DOCUMENT_ID")]
    pub(super) document: Vec<String>,
}

/// Options of `airut request return`.
#[derive(Debug, Args)]
pub(crate) struct Return {
    #[command(flatten)]
    pub(super) doing: Doing,
    #[command(flatten)]
    pub(super) contact: Contact,
    /// What is missing; - for standard input.
    #[arg(long, value_name = "FILE")]
    pub(super) text_file: PathBuf,
    /// When the answer is due now. Seven working days ahead when not given.
    #[arg(long, value_name = "DATE", value_parser = day)]
    pub(super) due: Option<Date>,
}

/// Options of `airut request close` and `cancel`.
#[derive(Debug, Args)]
pub(crate) struct Remark {
    #[command(flatten)]
    pub(super) doing: Doing,
    /// A remark; - for standard input.
    #[arg(long, value_name = "FILE")]
    pub(super) text_file: Option<PathBuf>,
}

/// Options of `airut request transfer`.
#[derive(Debug, Args)]
pub(crate) struct Transfer {
    #[command(flatten)]
    pub(super) doing: Doing,
    #[command(flatten)]
    pub(super) contact: Contact,
    /// Who should have got it.
    #[arg(long, value_name = "PARTNER")]
    pub(super) to: PartnerId,
    /// Why; - for standard input.
    #[arg(long, value_name = "FILE")]
    pub(super) text_file: PathBuf,
    /// When the answer is due now; as it was when not given. Only the requester may change it.
    #[arg(long, value_name = "DATE", value_parser = day)]
    pub(super) due: Option<Date>,
}

/// Options of `airut request watch`.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(super) caller: Caller,
    /// Go on after what was told with this token.
    #[arg(long, value_name = "TOKEN", default_value = "")]
    pub(super) resume: String,
    /// End after so many changes.
    #[arg(long, value_name = "NUMBER")]
    pub(super) count: Option<u64>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Kind {
    /// A statement by social welfare authorities.
    Statement,
    /// A report on supplementary and preventive social assistance.
    AssistanceReport,
    /// Information on a service need assessment.
    ServiceNeedAssessment,
    /// Needs for multidisciplinary cooperation.
    MultidisciplinaryCooperation,
}

impl From<Kind> for PbKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Statement => Self::Statement,
            Kind::AssistanceReport => Self::AssistanceReport,
            Kind::ServiceNeedAssessment => Self::ServiceNeedAssessment,
            Kind::MultidisciplinaryCooperation => Self::MultidisciplinaryCooperation,
        }
    }
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum State {
    Open,
    Returned,
    Answered,
    Closed,
    Cancelled,
    Lapsed,
}

impl From<State> for PbState {
    fn from(state: State) -> Self {
        match state {
            State::Open => Self::Open,
            State::Returned => Self::Returned,
            State::Answered => Self::Answered,
            State::Closed => Self::Closed,
            State::Cancelled => Self::Cancelled,
            State::Lapsed => Self::Lapsed,
        }
    }
}

impl Which {
    pub(super) fn requester(&self) -> String {
        self.requester.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}

impl Doing {
    pub(super) fn command_id(&self) -> String {
        self.command_id.clone().unwrap_or_else(new_id)
    }
}

impl Contact {
    pub(super) fn message(&self) -> Option<v1::Contact> {
        let contact = v1::Contact { unit: self.unit.clone(), telephone: self.telephone.clone() };
        (contact != v1::Contact::default()).then_some(contact)
    }
}

pub(super) fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn day(text: &str) -> anyhow::Result<Date> {
    parse_date(text).ok_or_else(|| anyhow!("must be a date such as 2026-12-04"))
}
