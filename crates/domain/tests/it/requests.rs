//! The life of an information request against a model that knows nothing of records: whoever does what, in whatever order.

use airut_domain::{
    id::{KeyId, PartnerId},
    keys::Digest,
    partition::{Partition, Position, Topic},
    query::{Access, At},
    request::{Action, Command, Created, Event, Read, Request, RequestKey, RequestKind, State, Void, apply},
    time::{Timestamp, parse_date},
};
use proptest::prelude::*;

const PARTIES: [&str; 3] = ["kela", "pirkanmaa", "helsinki"];

/// What somebody tries: who, what, and with which of a few ids.
#[derive(Clone, Copy, Debug)]
struct Try {
    by: usize,
    what: u8,
    id: u8,
    /// For the version that it is now, another one, or none.
    expected: Option<bool>,
}

fn tries() -> impl Strategy<Value = Vec<Try>> {
    let one = (0..3_usize, 0..6_u8, 0..12_u8, prop::option::weighted(0.2, any::<bool>()));
    prop::collection::vec(one.prop_map(|(by, what, id, expected)| Try { by, what, id, expected }), 0..40)
}

fn key() -> RequestKey {
    RequestKey { requester: "kela".parse().expect("valid"), request_id: "r-1".parse().expect("valid") }
}

fn access() -> Access {
    Access {
        purpose: "social-assistance".parse().expect("valid"),
        legal_basis: "1412/1997".parse().expect("valid"),
        contract_version: 1,
        subject: Digest::of(b"subject"),
        subject_key: "subject-2026".parse::<KeyId>().expect("valid"),
        end_user: Digest::of(b"user"),
        case: Digest::of(b"case"),
    }
}

fn at(offset: u64) -> At {
    let partition = Partition { topic: Topic::Requests, number: 0 };
    At {
        position: Position { partition, offset },
        time: Timestamp::from_millis(1_795_334_400_000 + i64::try_from(offset).expect("valid")),
    }
}

fn party(number: usize) -> PartnerId {
    PARTIES[number].parse().expect("valid")
}

fn action(tried: Try) -> Option<Action> {
    let due = parse_date("2026-12-04").expect("valid");
    match tried.what {
        0 => Some(Action::Respond { documents: Vec::new() }),
        1 => Some(Action::Return { due }),
        2 => Some(Action::Close),
        3 => Some(Action::Cancel),
        4 => Some(Action::Transfer { to: party(1 + tried.id as usize % 2), due: None }),
        _ => None,
    }
}

/// The model: a word for the state, who is to answer, and what was done with which id.
struct Model {
    state: &'static str,
    responder: usize,
    done: Vec<(usize, u8, u8)>,
}

impl Model {
    /// Whether the command counts.
    fn tries(&mut self, tried: Try, action: &Action) -> bool {
        if self.done.iter().any(|(by, id, _)| (*by, *id) == (tried.by, tried.id)) {
            return false;
        }
        let asks = tried.by == 0;
        let answers = tried.by == self.responder;
        let waits = self.state == "open" || self.state == "returned";
        let next = match action {
            Action::Respond { .. } if answers && waits => "answered",
            Action::Return { .. } if asks && self.state == "answered" => "returned",
            Action::Close if asks && self.state == "answered" => "closed",
            Action::Cancel if asks && waits => "cancelled",
            Action::Transfer { to, .. } if (asks || answers) && waits && *to != party(self.responder) => {
                self.responder = PARTIES.iter().position(|name| *name == to.as_str()).expect("valid");
                "open"
            }
            Action::Respond { .. }
            | Action::Return { .. }
            | Action::Close
            | Action::Cancel
            | Action::Transfer { .. } => {
                return false;
            }
        };
        if tried.expected == Some(false) {
            // What it would have changed it has not.
            return false;
        }
        self.state = next;
        self.done.push((tried.by, tried.id, tried.what));
        true
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Open => "open",
        State::Answered => "answered",
        State::Returned => "returned",
        State::Closed => "closed",
        State::Cancelled => "cancelled",
        State::Lapsed => "lapsed",
    }
}

fn created() -> Event {
    Event::Created(Created {
        key: key(),
        responder: party(1),
        kind: RequestKind::Statement,
        due: parse_date("2026-12-01").expect("valid"),
        fingerprint: Digest::of(b"first"),
        access: access(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::cases_or(20_000)))]

    #[test]
    fn what_counts_and_what_comes_of_it_is_as_the_model_says(tries in tries()) {
        let mut request: Request = apply(None, at(0), &created()).expect("valid");
        let mut model = Model { state: "open", responder: 1, done: Vec::new() };
        for (offset, tried) in (1..).zip(tries) {
            let Some(action) = action(tried) else {
                // A reading: its parties' alone, and of what is there now.
                let read = Read { key: key(), created: 0, by: party(tried.by), version: request.version(), access: access() };
                let read = apply(Some(&request), at(offset), &Event::Read(read));
                prop_assert_eq!(read.is_ok(), tried.by == 0 || tried.by == model.responder);
                request = read.unwrap_or(request);
                continue;
            };
            let before = (model.state, model.responder);
            let counts = model.tries(tried, &action);
            if !counts {
                (model.state, model.responder) = before;
            }
            let version = request.version();
            let command = Command {
                key: key(),
                by: party(tried.by),
                command_id: format!("c-{}", tried.id).parse().expect("valid"),
                fingerprint: Digest::of(&[tried.what]),
                expected: tried.expected.map(|right| if right { version } else { version + 1 }),
                access: access(),
                action,
            };
            match apply(Some(&request), at(offset), &Event::Command(command)) {
                Ok(next) => {
                    prop_assert!(counts, "{tried:?} counts");
                    prop_assert_eq!(next.version(), version + 1);
                    request = next;
                }
                Err(Void::Repeat(of)) => {
                    prop_assert!(model.done.contains(&(tried.by, tried.id, tried.what)) && !counts);
                    prop_assert!(request.steps.iter().any(|step| step.offset == of));
                }
                Err(void) => prop_assert!(!counts, "{tried:?} is void: {void:?}"),
            }
            prop_assert_eq!((word(request.state), &request.responder), (model.state, &party(model.responder)));
            prop_assert_eq!(request.steps.len(), model.done.len() + 1);
        }
    }
}
