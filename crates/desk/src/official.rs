//! Who sits at the desk: an official of one organisation, and what they may do there.

use std::collections::BTreeSet;

use airut_wire::v1;
use serde::{Deserialize, Serialize};

/// What an official may do. The provider of sign-in says it in the claim of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Look up benefits.
    Queries,
    /// Send and read documents.
    Documents,
    /// Put and answer information requests.
    Requests,
    /// Read notices.
    Notices,
    /// See what the organisation's other officials have looked at, and the feedback on the desk.
    Supervisor,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Queries, Self::Documents, Self::Requests, Self::Notices, Self::Supervisor];

    /// As the claim of roles has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queries => "queries",
            Self::Documents => "documents",
            Self::Requests => "requests",
            Self::Notices => "notices",
            Self::Supervisor => "supervisor",
        }
    }

    /// Those among the values of a claim; others are none of the desk's.
    pub fn among<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<Self> {
        names.into_iter().filter_map(|name| Self::ALL.into_iter().find(|role| role.name() == name)).collect()
    }
}

/// An official.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Official {
    /// What the organisation knows them by, and no other official.
    pub subject: String,
    /// Their name.
    pub name: String,
    /// The organisation's id at the exchange.
    pub organisation: String,
    /// What they are, such as "social-worker".
    pub title: String,
    /// Their unit, for counterparts to ask for.
    #[serde(default)]
    pub unit: String,
    /// Their unit's telephone.
    #[serde(default)]
    pub telephone: String,
    /// What they may do.
    pub roles: BTreeSet<Role>,
}

impl Official {
    /// Whether they may do it.
    pub fn may(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// How records at the exchange name them: two officials of the same name stay two.
    pub fn end_user(&self) -> String {
        format!("{} ({})", self.name, self.subject)
    }

    /// The context of a call that they make.
    pub fn context(&self, why: &Why, case_id: &str) -> v1::Context {
        v1::Context {
            end_user: self.end_user(),
            end_user_role: self.title.clone(),
            purpose: why.purpose.clone(),
            legal_basis: why.legal_basis.clone(),
            case_id: case_id.to_owned(),
        }
    }
}

/// Why something is looked at: the purpose, and the act that gives the right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Why {
    /// Such as "social-assistance".
    pub purpose: String,
    /// Such as "1412/1997".
    pub legal_basis: String,
}
