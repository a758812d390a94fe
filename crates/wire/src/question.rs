//! Questions, to and from the protocol.

use std::{collections::BTreeSet, fmt::Display};

use airut_domain::{
    context::{Context, Text},
    identity_code::IdentityCode,
    matter::Category,
    question::{Question, Scope},
    refusal::{Refusal, Violation},
    time::{Period, format_date, parse_date},
};

use crate::v1;

/// Reads a question, reporting every field at fault at once.
///
/// # Errors
/// A refusal with a violation per field; none repeats a value.
pub fn question(request: &v1::QueryBenefitsRequest) -> Result<Question, Refusal> {
    let mut faults = Faults::default();
    let query_id = faults.identifier("query_id", &request.query_id);
    let subject = faults.field("subject_id", &request.subject_id, |text| text.parse::<IdentityCode>());
    let context = faults.context(request.context.as_ref());
    let categories = faults.categories(&request.categories);
    let period = request.period.as_ref().map(|period| faults.period("period", period));

    let complete = || {
        Some(Question {
            query_id: query_id?,
            subject: subject?,
            context: context?,
            categories: categories?,
            period: match period {
                Some(period) => Some(period?),
                None => None,
            },
        })
    };
    let complete = complete();
    faults.finish(complete)
}

/// The question as it is put to a responder.
pub fn asked_question(
    question_id: String,
    asker: String,
    request: v1::QueryBenefitsRequest,
    scopes: Vec<v1::Scope>,
    deadline: airut_domain::time::Timestamp,
    traceparent: String,
) -> v1::ServeResponse {
    let question = v1::serve_response::Question {
        question_id,
        asker,
        subject_id: request.subject_id,
        context: request.context,
        scopes,
        deadline: Some(crate::receipt::timestamp(deadline)),
        traceparent,
    };
    v1::ServeResponse { message: Some(v1::serve_response::Message::Question(question)) }
}

/// Scopes for the protocol.
pub fn scopes(scopes: &[Scope]) -> Vec<v1::Scope> {
    let scope = |scope: &Scope| v1::Scope {
        category: category(scope.category),
        benefits: scope.benefits.iter().map(ToString::to_string).collect(),
        period: Some(period(scope.period)),
    };
    scopes.iter().map(scope).collect()
}

/// A category for the protocol.
pub fn category(category: Category) -> i32 {
    crate::matter::category(category).into()
}

pub(crate) fn period(period: Period) -> v1::Period {
    v1::Period { start_date: format_date(period.from()), end_date: format_date(period.to()) }
}

/// The fields at fault in a request that is being read.
#[derive(Default)]
pub(crate) struct Faults(Vec<Violation>);

impl Faults {
    /// What was read, unless something was at fault.
    pub(crate) fn finish<T>(self, read: Option<T>) -> Result<T, Refusal> {
        match read {
            Some(read) if self.0.is_empty() => Ok(read),
            Some(_) | None => Err(Refusal::fields(self.0)),
        }
    }

    /// Who asks and why: every field is required.
    pub(crate) fn context(&mut self, context: Option<&v1::Context>) -> Option<Context> {
        let none = v1::Context::default();
        let context = context.unwrap_or(&none);
        let end_user = self.field("context.end_user", &context.end_user, Text::new);
        let end_user_role = self.field("context.end_user_role", &context.end_user_role, Text::new);
        let purpose = self.identifier("context.purpose", &context.purpose);
        let legal_basis = self.identifier("context.legal_basis", &context.legal_basis);
        let case_id = self.field("context.case_id", &context.case_id, Text::new);
        Some(Context {
            end_user: end_user?,
            end_user_role: end_user_role?,
            purpose: purpose?,
            legal_basis: legal_basis?,
            case_id: case_id?,
        })
    }

    /// A field that may be empty.
    pub(crate) fn optional<T, E: Display>(
        &mut self,
        field: &'static str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<Option<T>> {
        if text.is_empty() { Some(None) } else { self.field(field, text, parse).map(Some) }
    }

    pub(crate) fn add<T>(&mut self, field: &'static str, fault: impl Display) -> Option<T> {
        self.0.push(Violation { field: field.into(), fault: fault.to_string() });
        None
    }

    pub(crate) fn field<T, E: Display>(
        &mut self,
        field: &'static str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if text.is_empty() {
            return self.add(field, "is required");
        }
        parse(text).map_or_else(|fault| self.add(field, fault), Some)
    }

    pub(crate) fn identifier<T: std::str::FromStr<Err: Display>>(
        &mut self,
        field: &'static str,
        text: &str,
    ) -> Option<T> {
        self.field(field, text, str::parse)
    }

    fn categories(&mut self, numbers: &[i32]) -> Option<BTreeSet<Category>> {
        let known: Option<BTreeSet<Category>> = numbers.iter().map(|n| crate::matter::category_from(*n)).collect();
        known.or_else(|| self.add("categories", "must be one of the known categories"))
    }

    pub(crate) fn period(&mut self, field: &'static str, period: &v1::Period) -> Option<Period> {
        let mut date = |name: &str, text: &str| {
            let read = if text.is_empty() {
                Err("is required")
            } else {
                parse_date(text).ok_or("must be a date such as 2026-11-22")
            };
            read.map_err(|fault| {
                self.0.push(Violation { field: format!("{field}.{name}").into(), fault: fault.into() })
            })
            .ok()
        };
        let (from, to) = (date("start_date", &period.start_date), date("end_date", &period.end_date));
        Period::new(from?, to?).or_else(|| self.add(field, "must not end before it starts"))
    }
}
