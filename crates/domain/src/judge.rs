//! What a contract allows of a question. Default deny.

use std::sync::Arc;

use crate::{
    id::PartnerId,
    question::{Question, Scope, Withheld, WithheldWhy},
    refusal::{Reason, Refusal},
    registry::VerifiedPartner,
    time::Date,
};

/// Proof that a question was judged and that something of it may be asked. Only [`judge`] makes one.
#[derive(Clone, Debug)]
pub struct Granted {
    asker: PartnerId,
    contract_version: u32,
    responder: PartnerId,
    scopes: Vec<Scope>,
    withheld: Vec<Withheld>,
}

impl Granted {
    /// Who asks.
    pub fn asker(&self) -> &PartnerId {
        &self.asker
    }

    /// The version of the asker's definition that granted it.
    pub fn contract_version(&self) -> u32 {
        self.contract_version
    }

    /// Who answers.
    pub fn responder(&self) -> &PartnerId {
        &self.responder
    }

    /// What may be seen; never empty.
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// What was asked for and may not be seen.
    pub fn withheld(&self) -> &[Withheld] {
        &self.withheld
    }
}

/// Narrows the question to what the asker's contract grants on `today`.
///
/// # Errors
/// [`Reason::NoContract`] when there is no contract for the purpose under the legal basis, [`Reason::NothingGranted`] when
/// there is one and nothing that was asked for lies within it.
pub fn judge(asker: &VerifiedPartner, question: &Question, today: Date) -> Result<Granted, Refusal> {
    let context = &question.context;
    let contracts = &asker.partner().contracts;
    let contract = contracts
        .iter()
        .find(|c| c.purpose == context.purpose && c.legal_basis == context.legal_basis)
        .ok_or(Refusal::new(Reason::NoContract))?;

    let mut scopes = Vec::new();
    let mut withheld = Vec::new();
    for grant in &contract.grants {
        if !question.categories.is_empty() && !question.categories.contains(&grant.category) {
            continue;
        }
        let window = grant.window(today);
        let asked = question.period.unwrap_or(window);
        if !window.covers(asked) {
            withheld.push(Withheld { category: grant.category, why: WithheldWhy::OutsideWindow });
        }
        if let Some(period) = window.intersection(asked) {
            withheld.push(Withheld { category: grant.category, why: WithheldWhy::OtherBenefits });
            scopes.push(Scope { category: grant.category, benefits: Arc::clone(&grant.benefits), period });
        }
    }
    for category in &question.categories {
        if !contract.grants.iter().any(|grant| grant.category == *category) {
            withheld.push(Withheld { category: *category, why: WithheldWhy::NotInContract });
        }
    }
    if scopes.is_empty() {
        return Err(Refusal::new(Reason::NothingGranted));
    }
    withheld.sort_by_key(|w| (w.category, w.why as u8));
    Ok(Granted {
        asker: asker.id().clone(),
        contract_version: asker.version(),
        responder: contract.responder.clone(),
        scopes,
        withheld,
    })
}
