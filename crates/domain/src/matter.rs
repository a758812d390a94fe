//! Benefit matters: what Kela knows about a person's benefits, by category.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    id::Benefit,
    time::{Date, Period},
};

/// What kind of content a matter is; contracts grant by it. Finnish terms after Kela's Kelmu service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// An application under way (vireilläolo).
    Pending,
    /// A decision (etuusratkaisu).
    Decision,
    /// A payment, made or to come (maksu).
    Payment,
    /// Whether and when the person is insured in Finland (vakuuttamistieto).
    Insurance,
    /// Benefit being recovered (perintä).
    Recovery,
    /// The annual maximum limit on medicine costs (lääkekatto).
    MedicineCostCap,
}

impl Category {
    /// All of them, in the order of the protocol.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Decision, Self::Payment, Self::Insurance, Self::Recovery, Self::MedicineCostCap];

    /// The name used in contracts, on the command line and in texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Decision => "decision",
            Self::Payment => "payment",
            Self::Insurance => "insurance",
            Self::Recovery => "recovery",
            Self::MedicineCostCap => "medicine-cost-cap",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not one of [`Category::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of pending, decision, payment, insurance, recovery, medicine-cost-cap")]
pub struct UnknownCategory;

impl FromStr for Category {
    type Err = UnknownCategory;

    fn from_str(text: &str) -> Result<Self, UnknownCategory> {
        Self::ALL.into_iter().find(|c| c.as_str() == text).ok_or(UnknownCategory)
    }
}

/// An amount of money in cents of a euro.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cents(pub i64);

/// `1 234.56 €`, with a no-break space every three digits.
impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (euros, cents) = (self.0.unsigned_abs() / 100, self.0.unsigned_abs() % 100);
        let digits = euros.to_string();
        let grouped: Vec<&str> = digits
            .as_bytes()
            .rchunks(3)
            .rev()
            .map(|chunk| std::str::from_utf8(chunk).expect("digits are ASCII"))
            .collect();
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{cents:02} €", grouped.join("\u{a0}"))
    }
}

/// One matter of one person: a single application, decision, payment …
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matter {
    /// The responder's id of the matter; related matters share their prefix.
    pub matter_id: String,
    /// The benefit that it is about.
    pub benefit: Benefit,
    /// What there is to know, by category.
    pub content: Content,
}

/// What there is to know of a matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// An application under way.
    Pending {
        /// When it was filed.
        filed: Date,
        /// From when the benefit is applied for, where stated.
        applied_from: Option<Date>,
        /// Where the handling stands.
        stage: Stage,
    },
    /// A decision.
    Decision {
        /// When it was made.
        decided: Date,
        /// What was decided.
        outcome: Outcome,
        /// The days it is in force.
        period: Option<Period>,
        /// The amount a month, when granted.
        monthly: Option<Cents>,
    },
    /// A payment.
    Payment {
        /// The day it is on the account.
        due: Date,
        /// How much, before tax.
        gross: Cents,
        /// How much, after tax and recovery.
        net: Cents,
        /// The days it is for.
        period: Period,
    },
    /// A time of being insured in Finland.
    Insurance {
        /// The first day.
        from: Date,
        /// The last day; none while it lasts.
        to: Option<Date>,
    },
    /// Benefit being recovered.
    Recovery {
        /// When recovery was decided.
        decided: Date,
        /// What was to be recovered.
        total: Cents,
        /// What is still to be recovered.
        remaining: Cents,
    },
    /// The annual maximum limit on medicine costs.
    MedicineCostCap {
        /// The calendar year.
        year: i32,
        /// What has counted towards the limit.
        accrued: Cents,
        /// The limit of that year.
        limit: Cents,
        /// When it was reached.
        reached: Option<Date>,
    },
}

/// Where the handling of an application stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Has arrived.
    Received,
    /// Is being handled.
    InHandling,
    /// Waits for what the applicant or somebody else was asked for.
    AwaitingInformation,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Granted.
    Granted,
    /// Rejected.
    Rejected,
    /// Ended.
    Terminated,
    /// Changed.
    Revised,
}

impl Matter {
    /// The category, which follows from the content.
    pub const fn category(&self) -> Category {
        match self.content {
            Content::Pending { .. } => Category::Pending,
            Content::Decision { .. } => Category::Decision,
            Content::Payment { .. } => Category::Payment,
            Content::Insurance { .. } => Category::Insurance,
            Content::Recovery { .. } => Category::Recovery,
            Content::MedicineCostCap { .. } => Category::MedicineCostCap,
        }
    }

    /// The part of the matter that lies within `window`; `None` when nothing does. What happens on one day (filed,
    /// decided, due) is in or out by that day. An insurance is cut to the window, so that what lies outside stays unknown.
    /// A medicine cost cap belongs to a calendar year as a whole and is in when the window touches that year; the day it was
    /// reached is told only when it lies within.
    pub fn within(mut self, window: Period) -> Option<Self> {
        let inside = match &mut self.content {
            Content::Pending { filed: day, .. }
            | Content::Decision { decided: day, .. }
            | Content::Payment { due: day, .. }
            | Content::Recovery { decided: day, .. } => window.contains(*day),
            Content::Insurance { from, to } => {
                let overlaps = *from <= window.to() && to.is_none_or(|to| window.from() <= to);
                *from = (*from).max(window.from());
                // An end beyond the window is not told: as seen from inside, the insurance lasts.
                *to = to.filter(|to| *to <= window.to());
                overlaps
            }
            Content::MedicineCostCap { year, reached, .. } => {
                *reached = reached.filter(|day| window.contains(*day));
                window.from().year() <= *year && *year <= window.to().year()
            }
        };
        inside.then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn euros_are_grouped() {
        assert_eq!(Cents(0).to_string(), "0.00 €");
        assert_eq!(Cents(123_456_789).to_string(), "1\u{a0}234\u{a0}567.89 €");
        assert_eq!(Cents(-5).to_string(), "-0.05 €");
    }

    #[test]
    fn an_insurance_is_cut_to_the_window() {
        let matter = |from, to| Matter {
            matter_id: "1".into(),
            benefit: "health-insurance".parse().expect("valid"),
            content: Content::Insurance { from, to },
        };
        let window = Period::new(date!(2026 - 01 - 01), date!(2026 - 12 - 31)).expect("ordered");
        let cut = matter(date!(1990 - 01 - 01), Some(date!(2030 - 01 - 01))).within(window);
        assert_eq!(cut, Some(matter(date!(2026 - 01 - 01), None)));
        assert_eq!(matter(date!(1990 - 01 - 01), Some(date!(2025 - 12 - 31))).within(window), None);
    }
}
