//! Questions as a responder gets them, from the protocol.

use std::sync::Arc;

use airut_domain::{
    context::{Context, Text},
    id::PartnerId,
    identity_code::IdentityCode,
    question::Scope,
    time::{Period, Timestamp, parse_date},
};

use crate::v1::{self, serve_response};

/// A question put to a responder, narrowed to what the asker may see. Its `Debug` hides the person and the end user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedQuestion {
    /// The exchange's id of the question.
    pub question_id: String,
    /// Who asks.
    pub asker: PartnerId,
    /// The person.
    pub subject: IdentityCode,
    /// Who asks and why.
    pub context: Context,
    /// What may be seen; anything else in the answer is dropped.
    pub scopes: Vec<Scope>,
    /// An answer after this is too late.
    pub deadline: Timestamp,
    /// W3C trace context of the question; empty when there is none.
    pub traceparent: String,
}

/// A field of a question that is not what the protocol says. Never repeats the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("question.{0} is missing or not valid")]
pub struct QuestionFault(pub &'static str);

impl TryFrom<serve_response::Question> for AskedQuestion {
    type Error = QuestionFault;

    fn try_from(question: serve_response::Question) -> Result<Self, QuestionFault> {
        let fault = QuestionFault;
        let context = question.context.as_ref().ok_or(fault("context"))?;
        Ok(Self {
            question_id: question.question_id,
            asker: question.asker.parse().map_err(|_| fault("asker"))?,
            subject: question.subject_id.parse().map_err(|_| fault("subject_id"))?,
            context: context_from(context)?,
            scopes: question.scopes.into_iter().map(scope_from).collect::<Result<_, _>>()?,
            deadline: crate::receipt::timestamp_from(question.deadline.ok_or(fault("deadline"))?),
            traceparent: question.traceparent,
        })
    }
}

fn context_from(context: &v1::Context) -> Result<Context, QuestionFault> {
    let fault = QuestionFault;
    Ok(Context {
        end_user: Text::new(&context.end_user).map_err(|_| fault("context.end_user"))?,
        end_user_role: Text::new(&context.end_user_role).map_err(|_| fault("context.end_user_role"))?,
        purpose: context.purpose.parse().map_err(|_| fault("context.purpose"))?,
        legal_basis: context.legal_basis.parse().map_err(|_| fault("context.legal_basis"))?,
        case_id: Text::new(&context.case_id).map_err(|_| fault("context.case_id"))?,
    })
}

fn scope_from(scope: v1::Scope) -> Result<Scope, QuestionFault> {
    let fault = QuestionFault;
    let period = scope.period.ok_or(fault("scopes.period"))?;
    let date = |text: &str| parse_date(text).ok_or(fault("scopes.period"));
    let benefits = scope.benefits.iter().map(|benefit| benefit.parse().map_err(|_| fault("scopes.benefits")));
    Ok(Scope {
        category: crate::matter::category_from(scope.category).ok_or(fault("scopes.category"))?,
        benefits: Arc::new(benefits.collect::<Result<_, _>>()?),
        period: Period::new(date(&period.start_date)?, date(&period.end_date)?).ok_or(fault("scopes.period"))?,
    })
}

#[cfg(test)]
mod tests {
    use airut_domain::matter::Category;

    use super::*;
    use crate::v1::serve_response::Message;

    fn asked() -> (serve_response::Question, Scope) {
        let scope = Scope {
            category: Category::Payment,
            benefits: Arc::new(["child-benefit".parse().expect("valid")].into()),
            period: Period::day(parse_date("2026-11-22").expect("a date")),
        };
        let context = v1::Context {
            end_user: "official".into(),
            end_user_role: "social-worker".into(),
            purpose: "social-assistance".into(),
            legal_basis: "1412/1997".into(),
            case_id: "case".into(),
        };
        let request =
            v1::QueryBenefitsRequest { subject_id: "131052-308T".into(), context: Some(context), ..Default::default() };
        let scopes = crate::scopes(std::slice::from_ref(&scope));
        let deadline = Timestamp::from_millis(1_795_329_318_042);
        let put = crate::asked_question("q1".into(), "pirkanmaa".into(), request, scopes, deadline, "00-…".into());
        match put.message.expect("set") {
            Message::Question(question) => (question, scope),
            Message::Opened(_) => unreachable!("a question was put"),
        }
    }

    #[test]
    fn a_question_reads_back_as_it_was_put() {
        let (question, scope) = asked();
        let read = AskedQuestion::try_from(question).expect("valid");
        assert_eq!(read.scopes, [scope]);
        assert_eq!(read.deadline, Timestamp::from_millis(1_795_329_318_042));
        assert_eq!(read.subject.as_str(), "131052-308T");
        assert!(!format!("{read:?}").contains("131052"));
    }

    #[test]
    fn a_fault_names_the_field_and_not_the_value() {
        let (question, _) = asked();
        let read = AskedQuestion::try_from(serve_response::Question { subject_id: "131052-308U".into(), ..question });
        assert_eq!(read, Err(QuestionFault("subject_id")));
    }
}
