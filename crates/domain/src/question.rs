//! A question about one person's benefits, and the scopes that a contract narrows it to.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    context::Context,
    id::{Benefit, QueryId},
    identity_code::IdentityCode,
    matter::Category,
    time::Period,
};

/// What a partner asks about a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The asker's id of the query.
    pub query_id: QueryId,
    /// The person.
    pub subject: IdentityCode,
    /// Who asks and why.
    pub context: Context,
    /// The categories asked for; empty means all that the contract grants.
    pub categories: BTreeSet<Category>,
    /// The days asked about; none means all that the contract grants.
    pub period: Option<Period>,
}

impl Question {
    /// Everything that makes two questions the same, in one unambiguous text. Personal data: keyed before it is kept.
    pub fn fingerprint_text(&self) -> Vec<u8> {
        let period = self.period.map(|p| p.to_string()).unwrap_or_default();
        let categories: Vec<&str> = self.categories.iter().map(|c| c.as_str()).collect();
        let categories = categories.join(",");
        let context = &self.context;
        let parts = [
            self.subject.as_str(),
            context.end_user.as_str(),
            context.end_user_role.as_str(),
            context.purpose.as_str(),
            context.legal_basis.as_str(),
            context.case_id.as_str(),
            &categories,
            &period,
        ];
        // None of the parts can contain a control character, so a NUL separates them without doubt.
        parts.join("\0").into_bytes()
    }
}

/// What of one category may be seen: a contract's grant as it applies to one question on one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The category.
    pub category: Category,
    /// The benefits.
    pub benefits: Arc<BTreeSet<Benefit>>,
    /// The days.
    pub period: Period,
}

/// Something asked for and not shown. It follows from the question and the contract alone, never from the data, so it
/// tells nothing about the person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// The category.
    pub category: Category,
    /// Why.
    pub why: WithheldWhy,
}

/// Why something is withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithheldWhy {
    /// The contract does not grant the category for this purpose.
    NotInContract,
    /// Benefits that the contract does not name.
    OtherBenefits,
    /// Days outside the contract's window.
    OutsideWindow,
}
