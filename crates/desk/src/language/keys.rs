//! Every text is there in every language, and every one is used: looked for in templates, in code and in the data of the exchange.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use airut_domain::refusal::Reason;
use fluent_syntax::{
    ast::{Entry, Expression, InlineExpression, Pattern, PatternElement},
    parser::parse,
};

use super::{Language, files};
use crate::{
    store::Action,
    web::{fault::Fault, guard::DONE},
};

/// How keys in code begin that are handed on before they are looked up.
const HANDED_ON: [&str; 16] = [
    "menu-",
    "tab-",
    "table-",
    "sort-",
    "request-",
    "step-",
    "state-",
    "kind-",
    "category-",
    "stage-",
    "outcome-",
    "upload-",
    "withheld-",
    "matter-",
    "error-",
    "not-sent-",
];

type Keys = BTreeMap<String, BTreeSet<String>>;

/// The keys of a language, each with the words that it is given.
fn keys(language: Language) -> Keys {
    let mut keys = Keys::new();
    for (file, text) in files(language) {
        let parsed = parse(text).unwrap_or_else(|(_, faults)| panic!("{} {file}: {faults:?}", language.code()));
        for entry in parsed.body {
            let Entry::Message(message) = entry else { continue };
            let key = message.id.name.to_owned();
            let mut words = BTreeSet::new();
            words_of(message.value.as_ref().unwrap_or_else(|| panic!("{key} is empty")), &mut words);
            assert!(keys.insert(key.clone(), words).is_none(), "{} {file}: {key} is there twice", language.code());
        }
    }
    keys
}

fn words_of(pattern: &Pattern<&str>, words: &mut BTreeSet<String>) {
    for element in &pattern.elements {
        let PatternElement::Placeable { expression } = element else { continue };
        let inline = match expression {
            Expression::Inline(inline) => inline,
            Expression::Select { selector, variants } => {
                variants.iter().for_each(|variant| words_of(&variant.value, words));
                selector
            }
        };
        if let InlineExpression::VariableReference { id } = inline {
            words.insert(id.name.to_owned());
        }
    }
}

fn below(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap_or_else(|cause| panic!("{}: {cause}", dir.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(below(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found
}

/// The texts between quotation marks.
fn literals(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

/// What stands in quotation marks right behind a beginning.
fn after<'a>(text: &'a str, begin: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(begin).skip(1).filter_map(|rest| rest.split_once('"').map(|(literal, _)| literal))
}

fn is_key(text: &str) -> bool {
    text.contains('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.ends_with('-')
}

/// Keys that must be there, and keys that may be.
struct Used {
    must: BTreeSet<String>,
    may: BTreeSet<String>,
}

fn used() -> Used {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut must, mut may) = (BTreeSet::new(), BTreeSet::new());
    let sources = below(&root.join("src"), ".rs").into_iter().filter(|path| !path.ends_with("language/keys.rs"));
    for path in below(&root.join("templates"), ".html").into_iter().chain(sources) {
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("mod tests {").next().unwrap();
        may.extend(literals(text).map(str::to_owned));
        for begin in ["t.of(\"", "texts().of(\"", "t.count(\"", "t.named(\"", "t.with(\"", "frame(\""] {
            must.extend(after(text, begin).map(str::to_owned));
        }
        let handed_on =
            literals(text).filter(|key| is_key(key) && HANDED_ON.iter().any(|begin| key.starts_with(begin)));
        // A field's own name may begin alike.
        must.extend(handed_on.filter(|key| !key.contains("answer") || key.starts_with("step-")).map(str::to_owned));
        for begin in [".line(\"", ".area(\"", ".day(\"", ".choice(\"", ".checks(\"", ".identity_code(\""] {
            let names: Vec<&str> = after(text, begin).collect();
            must.extend(names.iter().map(|name| format!("field-{name}")));
            may.extend(names.iter().map(|name| format!("field-{name}-hint")));
        }
    }
    must.extend(DONE.map(|done| format!("done-{done}")));
    must.extend(Action::ALL.map(|action| format!("action-{}", action.name())));
    for key in Fault::KEYS {
        must.extend([format!("fault-{key}"), format!("fault-{key}-text")]);
    }
    may.extend(Reason::ALL.iter().map(|reason| format!("reason-{}", reason.code())));
    may.extend(words_of_the_exchange(&root.join("../../deploy/exchange")));
    Used { must, may }
}

/// Whatever a word list may name: types, benefits, purposes, parts of payloads and their values.
fn words_of_the_exchange(exchange: &Path) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for path in below(exchange, ".toml") {
        let text = fs::read_to_string(&path).unwrap();
        for word in literals(&text) {
            words.extend(["type", "benefit", "purpose"].map(|list| format!("{list}-{word}")));
        }
    }
    for path in below(exchange, ".schema.json") {
        let schema: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        parts_of(&schema, "", &mut words);
    }
    let officials = fs::read_to_string(exchange.join("../../crates/airut/src/dev/officials.rs")).unwrap();
    words.extend(literals(&officials).chain(["official"]).map(|title| format!("title-{title}")));
    words
}

fn parts_of(schema: &serde_json::Value, above: &str, words: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(members) => {
            if let Some(parts) = members.get("properties").and_then(serde_json::Value::as_object) {
                for (name, part) in parts {
                    words.extend([format!("part-{name}"), format!("part-{above}-{name}")]);
                    let values = part.get("enum").or_else(|| part.pointer("/items/enum"));
                    let values = values.and_then(serde_json::Value::as_array).into_iter().flatten();
                    words.extend(values.filter_map(|value| Some(format!("value-{name}-{}", value.as_str()?))));
                    parts_of(part, name, words);
                }
            }
            members.iter().filter(|(name, _)| *name != "properties").for_each(|(_, part)| parts_of(part, above, words));
        }
        serde_json::Value::Array(parts) => parts.iter().for_each(|part| parts_of(part, above, words)),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => {}
    }
}

#[test]
fn every_language_has_every_text_with_the_same_words() {
    let [fi, sv, en] = Language::ALL.map(keys);
    for (other, code) in [(&sv, "sv"), (&en, "en")] {
        let missing: Vec<&String> = fi.keys().filter(|key| !other.contains_key(*key)).collect();
        let unknown: Vec<&String> = other.keys().filter(|key| !fi.contains_key(*key)).collect();
        assert!(missing.is_empty() && unknown.is_empty(), "{code} lacks {missing:?} and has besides {unknown:?}");
        for (key, words) in &fi {
            assert_eq!(words, &other[key], "{key} in {code}");
        }
    }
}

#[test]
fn every_text_that_is_asked_for_is_there() {
    let (known, used) = (keys(Language::Fi), used());
    let missing: Vec<&String> = used.must.iter().filter(|key| !known.contains_key(*key)).collect();
    assert!(missing.is_empty(), "these have no text: {missing:?}");
}

#[test]
fn every_text_is_asked_for() {
    let (known, used) = (keys(Language::Fi), used());
    let unused: Vec<&String> =
        known.keys().filter(|key| !used.must.contains(*key) && !used.may.contains(*key)).collect();
    assert!(unused.is_empty(), "nobody asks for these: {unused:?}");
}

#[test]
fn a_text_says_how_many_in_each_language() {
    let [fi, sv, en] = Language::ALL.map(Language::texts);
    let said = |count: usize| [fi, sv, en].map(|texts| texts.count("list-count", count));
    assert_eq!(said(0), ["Ei yhtään.", "Ingen.", "None."]);
    assert_eq!(said(1), ["Yksi.", "En.", "One."]);
    assert_eq!(said(12), ["12 kappaletta.", "12 stycken.", "12 in all."]);
}
