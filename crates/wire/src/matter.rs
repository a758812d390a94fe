//! Matters, to and from the protocol.

use airut_domain::{
    matter::{Category, Cents, Content, Matter, Outcome, Stage},
    time::{Date, Period, format_date, parse_date},
};

use crate::v1::{self, matter as m};

/// A field of a matter that is not what the protocol says. Never repeats the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is missing or not valid")]
pub struct Fault(pub &'static str);

/// A matter for the protocol.
pub fn matter(matter: &Matter) -> v1::Matter {
    v1::Matter {
        matter_id: matter.matter_id.clone(),
        benefit: matter.benefit.to_string(),
        content: Some(content(&matter.content)),
    }
}

fn content(content: &Content) -> m::Content {
    match content {
        Content::Pending { filed, applied_from, stage } => m::Content::Pending(m::Pending {
            filed_date: format_date(*filed),
            applied_from_date: optional_date(*applied_from),
            stage: match stage {
                Stage::Received => m::Stage::Received,
                Stage::InHandling => m::Stage::InHandling,
                Stage::AwaitingInformation => m::Stage::AwaitingInformation,
            }
            .into(),
        }),
        Content::Decision { decided, outcome, period, monthly } => m::Content::Decision(m::Decision {
            decided_date: format_date(*decided),
            outcome: match outcome {
                Outcome::Granted => m::Outcome::Granted,
                Outcome::Rejected => m::Outcome::Rejected,
                Outcome::Terminated => m::Outcome::Terminated,
                Outcome::Revised => m::Outcome::Revised,
            }
            .into(),
            period: period.map(crate::question::period),
            monthly_cents: monthly.map(|cents| cents.0),
        }),
        Content::Payment { due, gross, net, period } => m::Content::Payment(m::Payment {
            due_date: format_date(*due),
            gross_cents: gross.0,
            net_cents: net.0,
            period: Some(crate::question::period(*period)),
        }),
        Content::Insurance { from, to } => {
            m::Content::Insurance(m::Insurance { start_date: format_date(*from), end_date: optional_date(*to) })
        }
        Content::Recovery { decided, total, remaining } => m::Content::Recovery(m::Recovery {
            decided_date: format_date(*decided),
            total_cents: total.0,
            remaining_cents: remaining.0,
        }),
        Content::MedicineCostCap { year, accrued, limit, reached } => m::Content::MedicineCostCap(m::MedicineCostCap {
            year: *year,
            accrued_cents: accrued.0,
            limit_cents: limit.0,
            reached_date: optional_date(*reached),
        }),
    }
}

impl TryFrom<v1::Matter> for Matter {
    type Error = Fault;

    fn try_from(matter: v1::Matter) -> Result<Self, Fault> {
        if matter.matter_id.is_empty() || matter.matter_id.len() > 64 {
            return Err(Fault("matter_id"));
        }
        Ok(Self {
            matter_id: matter.matter_id,
            benefit: matter.benefit.parse().map_err(|_| Fault("benefit"))?,
            content: content_from(matter.content.ok_or(Fault("content"))?)?,
        })
    }
}

fn content_from(content: m::Content) -> Result<Content, Fault> {
    Ok(match content {
        m::Content::Pending(pending) => Content::Pending {
            filed: date(&pending.filed_date, "pending.filed_date")?,
            applied_from: maybe_date(&pending.applied_from_date, "pending.applied_from_date")?,
            stage: match pending.stage() {
                m::Stage::Unspecified => return Err(Fault("pending.stage")),
                m::Stage::Received => Stage::Received,
                m::Stage::InHandling => Stage::InHandling,
                m::Stage::AwaitingInformation => Stage::AwaitingInformation,
            },
        },
        m::Content::Decision(decision) => Content::Decision {
            decided: date(&decision.decided_date, "decision.decided_date")?,
            outcome: match decision.outcome() {
                m::Outcome::Unspecified => return Err(Fault("decision.outcome")),
                m::Outcome::Granted => Outcome::Granted,
                m::Outcome::Rejected => Outcome::Rejected,
                m::Outcome::Terminated => Outcome::Terminated,
                m::Outcome::Revised => Outcome::Revised,
            },
            period: decision.period.as_ref().map(|p| period(p, "decision.period")).transpose()?,
            monthly: decision.monthly_cents.map(Cents),
        },
        m::Content::Payment(payment) => Content::Payment {
            due: date(&payment.due_date, "payment.due_date")?,
            gross: Cents(payment.gross_cents),
            net: Cents(payment.net_cents),
            period: period(payment.period.as_ref().ok_or(Fault("payment.period"))?, "payment.period")?,
        },
        m::Content::Insurance(insurance) => Content::Insurance {
            from: date(&insurance.start_date, "insurance.start_date")?,
            to: maybe_date(&insurance.end_date, "insurance.end_date")?,
        },
        m::Content::Recovery(recovery) => Content::Recovery {
            decided: date(&recovery.decided_date, "recovery.decided_date")?,
            total: Cents(recovery.total_cents),
            remaining: Cents(recovery.remaining_cents),
        },
        m::Content::MedicineCostCap(cap) => Content::MedicineCostCap {
            year: cap.year,
            accrued: Cents(cap.accrued_cents),
            limit: Cents(cap.limit_cents),
            reached: maybe_date(&cap.reached_date, "medicine_cost_cap.reached_date")?,
        },
    })
}

fn optional_date(date: Option<Date>) -> String {
    date.map(format_date).unwrap_or_default()
}

fn date(text: &str, field: &'static str) -> Result<Date, Fault> {
    parse_date(text).ok_or(Fault(field))
}

fn maybe_date(text: &str, field: &'static str) -> Result<Option<Date>, Fault> {
    if text.is_empty() { Ok(None) } else { date(text, field).map(Some) }
}

fn period(period: &v1::Period, field: &'static str) -> Result<Period, Fault> {
    let (from, to) = (date(&period.start_date, field)?, date(&period.end_date, field)?);
    Period::new(from, to).ok_or(Fault(field))
}

/// A category for the protocol.
pub(crate) const fn category(category: Category) -> v1::Category {
    match category {
        Category::Pending => v1::Category::Pending,
        Category::Decision => v1::Category::Decision,
        Category::Payment => v1::Category::Payment,
        Category::Insurance => v1::Category::Insurance,
        Category::Recovery => v1::Category::Recovery,
        Category::MedicineCostCap => v1::Category::MedicineCostCap,
    }
}

/// A category from the protocol.
pub(crate) fn category_from(number: i32) -> Option<Category> {
    match v1::Category::try_from(number).ok()? {
        v1::Category::Unspecified => None,
        v1::Category::Pending => Some(Category::Pending),
        v1::Category::Decision => Some(Category::Decision),
        v1::Category::Payment => Some(Category::Payment),
        v1::Category::Insurance => Some(Category::Insurance),
        v1::Category::Recovery => Some(Category::Recovery),
        v1::Category::MedicineCostCap => Some(Category::MedicineCostCap),
    }
}
