//! Information requests over the gRPC edge, as both parties and those who are none see them.

use std::{sync::Arc, time::Duration};

use airut_domain::{
    partition::Topic,
    record::Kind,
    refusal::Reason,
    request::{Event, LONGEST, Notice, REMEMBERED},
};
use airut_exchange::{Gateway, request_service};
use airut_wire::v1::{
    self, InformationRequestKind as RequestKind, InformationRequestState as State,
    information_request_service_client::InformationRequestServiceClient,
    information_request_service_server::{InformationRequestService, InformationRequestServiceServer},
    information_request_step::Action,
    watch_information_requests_response::Change,
};
use tonic::{Code, Status};

use crate::{
    edge::identified,
    support::{Sandbox, person, requesting_partners, soon},
};

pub(crate) type Party<S> = InformationRequestServiceClient<InformationRequestServiceServer<S>>;

/// A partner at a gateway.
pub(crate) fn party(gateway: &Gateway, partner: &'static str) -> Party<impl InformationRequestService + use<>> {
    let caller_of = Arc::new(move |_: &http::Extensions, registry: &_| identified(registry, partner));
    InformationRequestServiceClient::new(request_service(gateway.clone(), caller_of))
}

async fn sandbox(gateways: usize) -> Sandbox {
    let sandbox = Sandbox::with_gateways(gateways).await;
    sandbox.apply(requesting_partners()).await;
    sandbox
}

pub(crate) fn context(end_user: &str) -> Option<v1::Context> {
    Some(v1::Context {
        end_user: end_user.into(),
        end_user_role: "official".into(),
        purpose: "social-assistance".into(),
        legal_basis: "1412/1997".into(),
        case_id: "case-1".into(),
    })
}

/// A request of `kela` to `pirkanmaa` about the first person.
pub(crate) fn asking(id: &str) -> v1::CreateInformationRequestRequest {
    v1::CreateInformationRequestRequest {
        request_id: id.into(),
        responder: "pirkanmaa".into(),
        kind: RequestKind::Statement.into(),
        subject_id: person(0).as_str().into(),
        context: context("kaino.laine"),
        question: Some(v1::Question {
            text: "Has the client been granted preventive assistance?".into(),
            background: "A decision on basic assistance is under way.".into(),
            period: None,
        }),
        due_date: String::new(),
        contact: Some(v1::Contact { unit: "Tampere".into(), telephone: "+358 20 634 0000".into() }),
    }
}

pub(crate) fn answering(id: &str, command: &str) -> v1::RespondInformationRequestRequest {
    v1::RespondInformationRequestRequest {
        requester: "kela".into(),
        request_id: id.into(),
        command_id: command.into(),
        context: context("meri.virtanen"),
        text: format!("Answer {command}: none since June."),
        document_ids: Vec::new(),
        contact: None,
        expected_version: 0,
    }
}

pub(crate) fn returning(id: &str, command: &str) -> v1::ReturnInformationRequestRequest {
    v1::ReturnInformationRequestRequest {
        request_id: id.into(),
        command_id: command.into(),
        context: context("kaino.laine"),
        text: "And before June?".into(),
        due_date: String::new(),
        contact: None,
        expected_version: 0,
    }
}

pub(crate) fn closing(id: &str, command: &str) -> v1::CloseInformationRequestRequest {
    v1::CloseInformationRequestRequest {
        request_id: id.into(),
        command_id: command.into(),
        context: context("kaino.laine"),
        text: String::new(),
        expected_version: 0,
    }
}

pub(crate) fn cancelling(id: &str, command: &str) -> v1::CancelInformationRequestRequest {
    v1::CancelInformationRequestRequest {
        request_id: id.into(),
        command_id: command.into(),
        context: context("kaino.laine"),
        text: String::new(),
        expected_version: 0,
    }
}

pub(crate) fn passing_on(id: &str, command: &str, to: &str) -> v1::TransferInformationRequestRequest {
    v1::TransferInformationRequestRequest {
        requester: "kela".into(),
        request_id: id.into(),
        command_id: command.into(),
        context: context("meri.virtanen"),
        responder: to.into(),
        text: "The client has moved.".into(),
        due_date: String::new(),
        contact: None,
        expected_version: 0,
    }
}

pub(crate) fn reading(id: &str, min_position: &str) -> v1::GetInformationRequestRequest {
    v1::GetInformationRequestRequest {
        requester: "kela".into(),
        request_id: id.into(),
        context: context("reader"),
        min_position: min_position.into(),
    }
}

/// The ids of a party's requests, by due date.
async fn list<S: InformationRequestService>(
    party: &mut Party<S>,
    request: v1::ListInformationRequestsRequest,
) -> Vec<String> {
    let listed = soon(party.list_information_requests(request)).await.unwrap().into_inner();
    listed.information_requests.into_iter().map(|request| request.request_id).collect()
}

fn reason(refused: &Status) -> Option<Reason> {
    airut_wire::reason_of(refused)
}

/// The fields at fault.
fn fields(refused: &Status) -> Vec<String> {
    use tonic_types::StatusExt;
    let faults = refused.get_details_bad_request().map(|faults| faults.field_violations).unwrap_or_default();
    faults.into_iter().map(|violation| violation.field).collect()
}

fn word(step: &v1::InformationRequestStep) -> &'static str {
    match step.action.as_ref().unwrap() {
        Action::Created(_) => "created",
        Action::Responded(_) => "responded",
        Action::Returned(_) => "returned",
        Action::Closed(_) => "closed",
        Action::Transferred(_) => "transferred",
        Action::Cancelled(_) => "cancelled",
    }
}

/// The records of a request, by their names.
fn story(sandbox: &Sandbox, id: &str) -> Vec<String> {
    let of = |event: &Event| event.key().request_id.as_str() == id;
    let records = sandbox.ground.records(Topic::Requests).into_iter();
    records
        .filter_map(|(_, header)| match header.kind {
            Kind::Request(event) if of(&event) => Some(event.name().to_owned()),
            _ => None,
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_returned_answered_again_and_closed() {
    let sandbox = sandbox(1).await;
    let (mut kela, mut county) = (party(&sandbox.gateways[0], "kela"), party(&sandbox.gateways[0], "pirkanmaa"));
    let created = soon(kela.create_information_request(asking("r-1"))).await.unwrap().into_inner();
    let created = created.information_request.unwrap();
    // 22 November 2026 is a Sunday.
    assert_eq!((created.state(), created.version, created.due_date.as_str()), (State::Open, 1, "2026-12-01"));
    assert_eq!(list(&mut county, v1::ListInformationRequestsRequest::default()).await, ["r-1"]);

    let shown = soon(county.get_information_request(reading("r-1", &created.position))).await.unwrap().into_inner();
    assert_eq!(shown.subject_id, person(0).as_str());
    let Some(Action::Created(asked)) = &shown.steps[0].action else { panic!("{:?}", shown.steps) };
    assert_eq!(asked.question, asking("r-1").question);
    assert_eq!((shown.steps[0].end_user.as_str(), shown.steps[0].partner.as_str()), ("kaino.laine", "kela"));
    assert_eq!(shown.steps[0].contact, asking("r-1").contact);
    assert!(shown.information_request.unwrap().read_time.is_some());

    let answered = soon(county.respond_information_request(answering("r-1", "a"))).await.unwrap().into_inner();
    assert_eq!(answered.information_request.unwrap().state(), State::Answered);
    let returned = soon(kela.return_information_request(returning("r-1", "b"))).await.unwrap().into_inner();
    let returned = returned.information_request.unwrap();
    assert_eq!((returned.state(), returned.read_time), (State::Returned, None));
    soon(county.respond_information_request(answering("r-1", "c"))).await.unwrap();
    let closed = soon(kela.close_information_request(closing("r-1", "d"))).await.unwrap().into_inner();
    let closed = closed.information_request.unwrap();
    assert_eq!((closed.state(), closed.version), (State::Closed, 5));

    let shown = soon(kela.get_information_request(reading("r-1", &closed.position))).await.unwrap().into_inner();
    let words: Vec<&str> = shown.steps.iter().map(word).collect();
    assert_eq!(words, ["created", "responded", "returned", "responded", "closed"]);
    let Some(Action::Responded(second)) = &shown.steps[3].action else { panic!("{:?}", shown.steps) };
    assert_eq!(second.text, answering("r-1", "c").text);
    let expected =
        ["created", "read", "answered", "returned", "answered", "closed", "read"].map(|word| format!("request {word}"));
    assert_eq!(story(&sandbox, "r-1"), expected);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_the_state_or_the_caller_is_refused_and_changes_nothing() {
    let sandbox = sandbox(1).await;
    let gateway = &sandbox.gateways[0];
    let (mut kela, mut county) = (party(gateway, "kela"), party(gateway, "pirkanmaa"));
    soon(kela.create_information_request(asking("r-1"))).await.unwrap();
    let refused = [
        soon(kela.return_information_request(returning("r-1", "a"))).await.unwrap_err(),
        soon(kela.close_information_request(closing("r-1", "b"))).await.unwrap_err(),
    ];
    for refused in &refused {
        assert_eq!((refused.code(), reason(refused)), (Code::FailedPrecondition, Some(Reason::WrongState)));
    }
    let refused = soon(kela.respond_information_request(answering("r-1", "c"))).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::PermissionDenied, Some(Reason::NotYourPart)));
    let stale = v1::RespondInformationRequestRequest { expected_version: 2, ..answering("r-1", "d") };
    let refused = soon(county.respond_information_request(stale)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, Some(Reason::VersionChanged)));

    // Who has no part in it learns nothing of it, whether it is there or not.
    let mut helsinki = party(gateway, "helsinki");
    for id in ["r-1", "r-2"] {
        let refused = [
            soon(helsinki.get_information_request(reading(id, ""))).await.unwrap_err(),
            soon(helsinki.respond_information_request(answering(id, "e"))).await.unwrap_err(),
            soon(helsinki.transfer_information_request(passing_on(id, "f", "pirkanmaa"))).await.unwrap_err(),
        ];
        for refused in refused {
            assert_eq!((refused.code(), refused.message()), (Code::NotFound, Reason::NotFound.sentence()));
        }
    }
    let mut elo = party(gateway, "elo");
    let refused = soon(elo.create_information_request(asking("r-3"))).await.unwrap_err();
    assert_eq!(reason(&refused), Some(Reason::NoContract));
    let cancelled = soon(kela.cancel_information_request(cancelling("r-1", "g"))).await.unwrap().into_inner();
    assert_eq!(cancelled.information_request.unwrap().version, 2);
    assert_eq!(sandbox.refusals().len(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_told_the_same_and_an_id_is_not_used_twice() {
    let sandbox = sandbox(1).await;
    let (mut kela, mut county) = (party(&sandbox.gateways[0], "kela"), party(&sandbox.gateways[0], "pirkanmaa"));
    for _ in 0..2 {
        let created = soon(kela.create_information_request(asking("r-1"))).await.unwrap().into_inner();
        assert_eq!(created.information_request.unwrap().version, 1);
    }
    let other = v1::CreateInformationRequestRequest { responder: "helsinki".into(), ..asking("r-1") };
    let refused = soon(kela.create_information_request(other)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::AlreadyExists, Some(Reason::RequestIdReused)));
    for _ in 0..2 {
        soon(county.respond_information_request(answering("r-1", "a"))).await.unwrap();
    }
    let other = v1::RespondInformationRequestRequest { text: "Something else.".into(), ..answering("r-1", "a") };
    let refused = soon(county.respond_information_request(other)).await.unwrap_err();
    assert_eq!(reason(&refused), Some(Reason::RequestIdReused));
    soon(kela.close_information_request(closing("r-1", "a"))).await.unwrap();
    // Closed by now, and the repeat is as good as the first.
    soon(county.respond_information_request(answering("r-1", "a"))).await.unwrap();
    assert_eq!(story(&sandbox, "r-1"), ["request created", "request answered", "request closed"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_passed_on_is_gone_at_once_at_every_gateway() {
    let sandbox = sandbox(2).await;
    let (here, there) = (&sandbox.gateways[0], &sandbox.gateways[1]);
    let (mut kela, mut county, mut helsinki) =
        (party(here, "kela"), party(here, "pirkanmaa"), party(there, "helsinki"));
    let watching = v1::WatchInformationRequestsRequest::default();
    let mut seen = soon(county.watch_information_requests(watching)).await.unwrap().into_inner();
    assert_eq!(soon(seen.message()).await.unwrap().unwrap().change, None);
    soon(kela.create_information_request(asking("r-1"))).await.unwrap();
    let change = soon(seen.message()).await.unwrap().unwrap().change;
    assert!(matches!(change, Some(Change::InformationRequest(request)) if request.request_id == "r-1"));

    // To one that may not have it, and to one that has it already.
    let refused = soon(county.transfer_information_request(passing_on("r-1", "a", "elo"))).await.unwrap_err();
    assert_eq!(reason(&refused), Some(Reason::NoContract));
    let refused = soon(county.transfer_information_request(passing_on("r-1", "b", "pirkanmaa"))).await.unwrap_err();
    assert_eq!(reason(&refused), Some(Reason::WrongState));
    let dated =
        v1::TransferInformationRequestRequest { due_date: "2026-12-02".into(), ..passing_on("r-1", "c", "helsinki") };
    assert_eq!(fields(&soon(county.transfer_information_request(dated)).await.unwrap_err()), ["due_date"]);
    let passed =
        soon(county.transfer_information_request(passing_on("r-1", "d", "helsinki"))).await.unwrap().into_inner();
    assert_eq!(passed.information_request, None);
    // Repeated, it is told no more than before.
    let again =
        soon(county.transfer_information_request(passing_on("r-1", "d", "helsinki"))).await.unwrap().into_inner();
    assert_eq!(again.information_request, None);

    let shown = soon(kela.get_information_request(reading("r-1", ""))).await.unwrap().into_inner();
    let position = shown.information_request.unwrap().position;
    let listing = || v1::ListInformationRequestsRequest { min_position: position.clone(), ..Default::default() };
    for gateway in &sandbox.gateways {
        assert!(list(&mut party(gateway, "pirkanmaa"), listing()).await.is_empty());
        let mut county = party(gateway, "pirkanmaa");
        let refused = soon(county.get_information_request(reading("r-1", &position))).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        assert_eq!(list(&mut party(gateway, "helsinki"), listing()).await, ["r-1"]);
    }
    let gone = soon(seen.message()).await.unwrap().unwrap();
    assert!(matches!(gone.change, Some(Change::Gone(gone)) if gone.request_id == "r-1"));
    let shown = soon(helsinki.get_information_request(reading("r-1", &position))).await.unwrap().into_inner();
    let Some(Action::Transferred(transferred)) = &shown.steps[1].action else { panic!("{:?}", shown.steps) };
    assert_eq!((transferred.text.as_str(), transferred.responder.as_str()), ("The client has moved.", "helsinki"));
    soon(helsinki.respond_information_request(answering("r-1", "e"))).await.unwrap();
    // What happens with it from now on is nothing to whom it was passed on from.
    let told = tokio::time::timeout(Duration::from_secs(30), seen.message()).await;
    assert!(told.is_err(), "{told:?}");
    // Both steps name those that may see them in the ledger.
    let parties: Vec<Vec<String>> = sandbox
        .ground
        .records(Topic::Requests)
        .iter()
        .map(|(_, header)| header.kind.parties().iter().map(ToString::to_string).collect())
        .collect();
    assert!(parties.contains(&vec!["kela".into(), "pirkanmaa".into(), "helsinki".into()]), "{parties:?}");
}

#[tokio::test(start_paused = true)]
async fn each_fault_of_a_request_is_told_by_its_field() {
    let sandbox = sandbox(1).await;
    let mut kela = party(&sandbox.gateways[0], "kela");
    type Put = fn(&mut v1::CreateInformationRequestRequest);
    let cases: [(&str, Put); 14] = [
        ("request_id", |request| request.request_id = person(0).as_str().into()),
        ("responder", |request| request.responder.clear()),
        ("kind", |request| request.kind = 9),
        ("subject_id", |request| request.subject_id = "010190-900X".into()),
        ("context.case_id", |request| request.context.as_mut().unwrap().case_id.clear()),
        ("question.text", |request| request.question.as_mut().unwrap().text = " \n".into()),
        ("question.text", |request| request.question.as_mut().unwrap().text = "x".repeat(4001)),
        ("question.background", |request| request.question.as_mut().unwrap().background = "a\u{7}".into()),
        ("question.period", |request| {
            let period = v1::Period { start_date: "2026-02-01".into(), end_date: "2026-01-01".into() };
            request.question.as_mut().unwrap().period = Some(period);
        }),
        ("contact.telephone", |request| request.contact.as_mut().unwrap().telephone = "call me".into()),
        ("due_date", |request| request.due_date = "soon".into()),
        ("due_date", |request| request.due_date = "2026-11-20".into()),
        ("due_date", |request| request.due_date = "2026-12-24".into()),
        ("due_date", |request| request.due_date = "2027-11-22".into()),
    ];
    for (field, put) in cases {
        let mut request = asking("r-1");
        put(&mut request);
        let refused = soon(kela.create_information_request(request)).await.unwrap_err();
        assert_eq!((refused.code(), fields(&refused)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
    let refused =
        soon(kela.create_information_request(v1::CreateInformationRequestRequest::default())).await.unwrap_err();
    assert_eq!(reason(&refused), Some(Reason::MissingField));
    assert!(story(&sandbox, "r-1").is_empty());
    let unsent = v1::RespondInformationRequestRequest { document_ids: vec!["d-1".into()], ..answering("r-1", "a") };
    soon(kela.create_information_request(asking("r-1"))).await.unwrap();
    let refused = soon(party(&sandbox.gateways[0], "pirkanmaa").respond_information_request(unsent)).await.unwrap_err();
    assert_eq!(fields(&refused), ["document_ids[0]"]);
}

#[tokio::test(start_paused = true)]
async fn lists_are_by_due_date_and_filtered_and_paged() {
    let sandbox = sandbox(1).await;
    let gateway = &sandbox.gateways[0];
    let (mut kela, mut county) = (party(gateway, "kela"), party(gateway, "pirkanmaa"));
    let days = ["2026-12-01", "2026-12-02", "2026-12-03", "2026-12-04", "2026-12-07"];
    for number in 0..20_usize {
        let request = v1::CreateInformationRequestRequest {
            due_date: days[number % 5].into(),
            responder: if number % 2 == 0 { "pirkanmaa" } else { "helsinki" }.into(),
            subject_id: person(u16::try_from(number / 10).unwrap()).as_str().into(),
            ..asking(&format!("r-{number:02}"))
        };
        soon(kela.create_information_request(request)).await.unwrap();
    }
    soon(county.respond_information_request(answering("r-00", "a"))).await.unwrap();
    let all = v1::ListInformationRequestsRequest::default;
    let mut expected: Vec<String> = (0..20).map(|number| format!("r-{number:02}")).collect();
    expected.sort_by_key(|id| id[2..].parse::<usize>().unwrap() % 5);
    let by_day = |mut ids: Vec<String>| {
        ids.chunks_mut(4).for_each(<[String]>::sort);
        ids
    };
    assert_eq!(by_day(list(&mut kela, all()).await), expected);

    let mut paged = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListInformationRequestsRequest { page_size: 3, page_token, ..all() };
        let page = soon(kela.list_information_requests(request)).await.unwrap().into_inner();
        assert!(page.information_requests.len() <= 3);
        paged.extend(page.information_requests.into_iter().map(|request| request.request_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(by_day(paged), expected);

    assert_eq!(list(&mut county, all()).await.len(), 10);
    let states = vec![State::Answered.into()];
    assert_eq!(list(&mut kela, v1::ListInformationRequestsRequest { states, ..all() }).await, ["r-00"]);
    let partner = "helsinki".to_owned();
    assert_eq!(
        list(&mut kela, v1::ListInformationRequestsRequest { partner: partner.clone(), ..all() }).await.len(),
        10
    );
    let (due_from, due_to) = ("2026-12-02".to_owned(), "2026-12-03".to_owned());
    let within = v1::ListInformationRequestsRequest { partner, due_from, due_to, page_size: 3, ..all() };
    assert_eq!(list(&mut kela, within).await.len(), 3);
    for (field, request) in [
        ("page_token", v1::ListInformationRequestsRequest { page_token: "next".into(), ..all() }),
        ("page_size", v1::ListInformationRequestsRequest { page_size: -1, ..all() }),
        ("states", v1::ListInformationRequestsRequest { states: vec![0], ..all() }),
        ("min_position", v1::ListInformationRequestsRequest { min_position: "airut.requests/0/999".into(), ..all() }),
    ] {
        assert_eq!(fields(&soon(kela.list_information_requests(request)).await.unwrap_err()), [field]);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_looks_for_a_persons_requests_says_why_and_is_on_record() {
    let sandbox = sandbox(1).await;
    let (mut kela, mut county) = (party(&sandbox.gateways[0], "kela"), party(&sandbox.gateways[0], "pirkanmaa"));
    for id in ["r-1", "r-2", "r-3"] {
        let subject_id = person(u16::from(id == "r-3")).as_str().to_owned();
        soon(kela.create_information_request(v1::CreateInformationRequestRequest { subject_id, ..asking(id) }))
            .await
            .unwrap();
    }
    let about = |context| v1::ListInformationRequestsRequest {
        subject_id: person(0).as_str().into(),
        context,
        ..Default::default()
    };
    let refused = soon(county.list_information_requests(about(None))).await.unwrap_err();
    assert_eq!(reason(&refused), Some(Reason::MissingField));
    let mut found = list(&mut county, about(context("meri.virtanen"))).await;
    found.sort();
    assert_eq!(found, ["r-1", "r-2"]);
    assert_eq!(story(&sandbox, "r-1"), ["request created", "request read"]);
    assert_eq!(story(&sandbox, "r-3"), ["request created"]);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_goes_on_where_it_left_off() {
    let sandbox = sandbox(2).await;
    let (mut kela, mut county) = (party(&sandbox.gateways[0], "kela"), party(&sandbox.gateways[0], "pirkanmaa"));
    let mut seen =
        soon(county.watch_information_requests(v1::WatchInformationRequestsRequest::default())).await.unwrap();
    let resume_token = soon(seen.get_mut().message()).await.unwrap().unwrap().resume_token;
    drop(seen);
    for id in ["r-1", "r-2"] {
        soon(kela.create_information_request(asking(id))).await.unwrap();
    }
    soon(county.respond_information_request(answering("r-1", "a"))).await.unwrap();
    sandbox.caught_up().await;

    let mut county = party(&sandbox.gateways[1], "pirkanmaa");
    let watching = v1::WatchInformationRequestsRequest { resume_token };
    let mut seen = soon(county.watch_information_requests(watching)).await.unwrap().into_inner();
    soon(seen.message()).await.unwrap().unwrap();
    let mut states = Vec::new();
    for _ in 0..2 {
        let told = soon(seen.message()).await.unwrap().unwrap();
        let Some(Change::InformationRequest(request)) = told.change else { panic!("{told:?}") };
        states.push((request.request_id.clone(), request.state()));
    }
    states.sort();
    assert_eq!(states, [("r-1".to_owned(), State::Answered), ("r-2".to_owned(), State::Open)]);
    let wrong = v1::WatchInformationRequestsRequest { resume_token: "1.2.3".into() };
    let mut refused = soon(county.watch_information_requests(wrong)).await.unwrap().into_inner();
    assert_eq!(fields(&soon(refused.message()).await.unwrap_err()), ["resume_token"]);
}

#[tokio::test(start_paused = true)]
async fn who_has_not_answered_in_time_is_reminded_once_and_only_by_contract() {
    let sandbox = sandbox(2).await;
    let mut kela = party(&sandbox.gateways[0], "kela");
    soon(kela.create_information_request(asking("r-1"))).await.unwrap();
    let to_helsinki = v1::CreateInformationRequestRequest { responder: "helsinki".into(), ..asking("r-2") };
    soon(kela.create_information_request(to_helsinki)).await.unwrap();
    let reminded = |id: &str| {
        let records = sandbox.ground.records(Topic::Requests).into_iter();
        let notices = records.filter_map(|(_, header)| match header.kind {
            Kind::Request(Event::Reminded(reminded)) if reminded.key.request_id.as_str() == id => Some(reminded.notice),
            _ => None,
        });
        // Both gateways may say so at once, and then the first counts.
        notices.reduce(|first, again| {
            assert_eq!(first, again);
            first
        })
    };
    // Due on 1 December, and not over before that day is in Finland.
    sandbox.ground.skip(Duration::from_secs(9 * 86_400 + 13 * 3600));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((reminded("r-1"), reminded("r-2")), (None, None));
    sandbox.ground.skip(Duration::from_secs(3600));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((reminded("r-1"), reminded("r-2")), (Some(Notice::Sent), Some(Notice::NotGranted)));
    let inbox = sandbox.gateways[0].folds().inbox(&"pirkanmaa".parse().unwrap());
    assert_eq!(inbox.messages, 1);
    let listed = soon(kela.list_information_requests(v1::ListInformationRequestsRequest::default())).await.unwrap();
    assert!(listed.into_inner().information_requests.iter().all(|request| request.overdue));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_closes_lapses_and_is_forgotten_in_time() {
    let sandbox = sandbox(1).await;
    let mut kela = party(&sandbox.gateways[0], "kela");
    soon(kela.create_information_request(asking("r-1"))).await.unwrap();
    sandbox.ground.skip(LONGEST);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let shown = soon(kela.get_information_request(reading("r-1", ""))).await.unwrap().into_inner();
    assert_eq!(shown.information_request.unwrap().state(), State::Lapsed);
    sandbox.ground.skip(REMEMBERED);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let refused = soon(kela.get_information_request(reading("r-1", ""))).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(list(&mut kela, v1::ListInformationRequestsRequest::default()).await.is_empty());
    // By then the id may be used anew.
    soon(kela.create_information_request(asking("r-1"))).await.unwrap();
}
