//! What of an answer may be shown.

use crate::{matter::Matter, question::Scope};

/// The matters, and the parts of them, that lie within the scopes; the rest is gone. The order stays.
///
/// Idempotent: minimising the result again changes nothing, which is how a disclosure is checked against a newer grant.
pub fn minimise(scopes: &[Scope], matters: Vec<Matter>) -> Vec<Matter> {
    matters
        .into_iter()
        .filter_map(|matter| {
            let scope = scopes
                .iter()
                .find(|scope| scope.category == matter.category() && scope.benefits.contains(&matter.benefit))?;
            matter.within(scope.period)
        })
        .collect()
}
