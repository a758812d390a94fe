//! docs/errors/ and the list of reasons say the same: every error links to its page.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use airut_domain::refusal::{Class, Reason};

#[test]
fn every_reason_has_its_page() {
    for reason in Reason::ALL {
        let code = reason.code();
        let page = read(&format!("{code}.md"));
        let head = format!("# {code}\n\n{}\n\n", reason.sentence());
        assert!(page.starts_with(&head), "{code}.md must begin with the code and the reason's sentence:\n{head}");
        let facts = [
            format!("\n| gRPC status | `{}` |\n", status(reason.class())),
            format!("\n| retry after | {}", retry(reason.retry_after())),
            "\n| on record | ".to_owned(),
            "\n## Likely causes\n".to_owned(),
            "\n**Caller.** ".to_owned(),
            "\n**Operator.** ".to_owned(),
        ];
        for fact in facts {
            assert!(page.contains(&fact), "{code}.md must say {:?}", fact.trim());
        }
    }
}

#[test]
fn every_reason_has_its_row_in_the_index_and_no_other_has() {
    let index = read("README.md");
    let rows: Vec<&str> = index.lines().filter(|line| line.starts_with("| [")).collect();
    for reason in Reason::ALL {
        let (code, status, retry) = (reason.code(), status(reason.class()), retry(reason.retry_after()));
        let row = format!("| [{code}]({code}.md) | `{status}` | {retry} | ");
        let found = rows.iter().filter(|line| line.starts_with(&row)).count();
        assert_eq!(found, 1, "README.md must have one row that begins with {row}");
    }
    assert_eq!(rows.len(), Reason::ALL.len(), "README.md has a row for what is no reason");
}

#[test]
fn every_page_has_its_reason() {
    let known: BTreeSet<String> = Reason::ALL.iter().map(|reason| format!("{}.md", reason.code())).collect();
    let entries = fs::read_dir(pages()).expect("docs/errors is there");
    let names = entries.map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"));
    let unknown: Vec<String> = names.filter(|name| name != "README.md" && !known.contains(name)).collect();
    assert!(unknown.is_empty(), "docs/errors has pages of no reason: {unknown:?}");
}

fn pages() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "docs", "errors"].iter().collect()
}

fn read(name: &str) -> String {
    let path = pages().join(name);
    fs::read_to_string(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
}

const fn status(class: Class) -> &'static str {
    match class {
        Class::Unauthenticated => "UNAUTHENTICATED",
        Class::PermissionDenied => "PERMISSION_DENIED",
        Class::NotFound => "NOT_FOUND",
        Class::InvalidArgument => "INVALID_ARGUMENT",
        Class::AlreadyExists => "ALREADY_EXISTS",
        Class::FailedPrecondition => "FAILED_PRECONDITION",
        Class::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Class::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Class::Unavailable => "UNAVAILABLE",
    }
}

fn retry(delay: Option<Duration>) -> String {
    delay.map_or("–".to_owned(), |delay| format!("{} s", delay.as_secs_f64()))
}
