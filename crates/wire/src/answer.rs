//! Answers and disclosures, to and from the protocol.

use airut_domain::{
    id::QueryId,
    matter::Matter,
    question::{Withheld, WithheldWhy},
};

use crate::v1;

/// Why a responder's answer can not be used. Never repeats a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// A matter at fault, counted from 0.
    #[error("matter {0}: {1}")]
    Matter(usize, crate::matter::Fault),
}

/// Reads the matters of an answer.
///
/// # Errors
/// The first matter that is not what the protocol says.
pub fn answer_from(matters: Vec<v1::Matter>) -> Result<Vec<Matter>, AnswerFault> {
    let read = |(i, matter)| Matter::try_from(matter).map_err(|fault| AnswerFault::Matter(i, fault));
    matters.into_iter().enumerate().map(read).collect()
}

/// What is disclosed, without its receipt: the form that is recorded and whose digest the receipt carries.
pub fn disclosure(query_id: &QueryId, matters: &[Matter], withheld: &[Withheld]) -> v1::QueryBenefitsResponse {
    let matters = matters.iter().map(crate::matter::matter).collect();
    let withheld = withheld.iter().map(crate::answer::withheld).collect();
    v1::QueryBenefitsResponse { query_id: query_id.to_string(), matters, withheld, receipt: None }
}

pub(crate) fn withheld(withheld: &Withheld) -> v1::Withheld {
    let reason = match withheld.why {
        WithheldWhy::NotInContract => v1::withheld::Reason::NotInContract,
        WithheldWhy::OtherBenefits => v1::withheld::Reason::OtherBenefits,
        WithheldWhy::OutsideWindow => v1::withheld::Reason::OutsideWindow,
    };
    v1::Withheld { category: crate::question::category(withheld.category), reason: reason.into() }
}

pub(crate) fn withheld_from(category: i32, reason: i32) -> Option<Withheld> {
    let why = match v1::withheld::Reason::try_from(reason).ok()? {
        v1::withheld::Reason::Unspecified => return None,
        v1::withheld::Reason::NotInContract => WithheldWhy::NotInContract,
        v1::withheld::Reason::OtherBenefits => WithheldWhy::OtherBenefits,
        v1::withheld::Reason::OutsideWindow => WithheldWhy::OutsideWindow,
    };
    Some(Withheld { category: crate::matter::category_from(category)?, why })
}
