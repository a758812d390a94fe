//! The message types in force, each with the schema that its payloads must follow.
//!
//! They are read from a directory: a `<name>.toml` for each type, and beside it the JSON Schema (draft 2020-12) that it names.
//! A catalogue is read as a whole or not at all, and never changes; to reload is to put another one in its place. It must never
//! let a payload pass unchecked for want of its schema, nor repeat in a refusal what a payload says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use airut_domain::{
    id::MessageType,
    identity_code::IdentityCode,
    message_type::{Definition, MessageTypes},
    refusal::{MOST_VIOLATIONS, Refusal, Violation},
};
use jsonschema::{
    Draft, PatternOptions, ValidationError, Validator,
    error::ValidationErrorKind,
    paths::{Location, LocationSegment},
};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The media type whose payloads a schema is for.
const JSON: &str = "application/json";

/// What a schema says that it is written in.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The format of a personal identity code: date, century sign and check character. Others take the name for a remark, so a
/// schema gives a pattern besides.
const IDENTITY_CODE: &str = "personal-identity-code";

/// A rule whose value is longer than this is told by its keyword alone.
const LONGEST_RULE: usize = 200;

/// The message types in force. The default has none, so that nothing can be sent.
#[derive(Debug, Default)]
pub struct Catalogue {
    types: MessageTypes,
    schemas: BTreeMap<MessageType, Schema>,
}

/// The files that a catalogue is made of, as they were read: whether another look found the same is told by comparing.
#[derive(Clone, PartialEq, Eq)]
pub struct CatalogueFiles {
    dir: PathBuf,
    files: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for CatalogueFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CatalogueFiles({} in {})", self.files.len(), self.dir.display())
    }
}

impl CatalogueFiles {
    /// Reads every `*.toml` and `*.json` of the directory.
    ///
    /// # Errors
    /// With the directory or the file that can not be read.
    pub fn read(dir: &Path) -> Result<Self, String> {
        let fault = |path: &Path, cause: std::io::Error| format!("{}: {cause}", path.display());
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(dir).map_err(|cause| fault(dir, cause))? {
            let path = entry.map_err(|cause| fault(dir, cause))?.path();
            let wanted = path.extension().is_some_and(|extension| extension == "toml" || extension == "json");
            if let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|_| wanted) {
                files.insert(name.to_owned(), fs::read(&path).map_err(|cause| fault(&path, cause))?);
            }
        }
        Ok(Self { dir: dir.to_owned(), files })
    }
}

impl Catalogue {
    /// Reads the directory's message types. What is not a `*.toml` and not named by one counts for nothing.
    ///
    /// # Errors
    /// Every fault at once, each with its file and field.
    pub fn load(dir: &Path) -> Result<Self, Vec<String>> {
        CatalogueFiles::read(dir).map_err(|fault| vec![fault])?.try_into()
    }

    /// The types.
    pub fn types(&self) -> &MessageTypes {
        &self.types
    }

    /// Whether a payload follows its type's schema. The definition is one of this catalogue's own. Takes about as long as to parse
    /// the payload.
    ///
    /// # Errors
    /// [`Reason::InvalidField`](airut_domain::refusal::Reason::InvalidField) on `payload`: for each broken rule the JSON pointer to
    /// where, and the rule. What the payload says is never repeated, a name that its schema does not know neither.
    pub fn check(&self, definition: &Definition, content_type: &str, payload: &[u8]) -> Result<(), Refusal> {
        if definition.schema.is_none() || content_type != JSON {
            return Ok(());
        }
        let Some(schema) = self.schemas.get(&definition.name) else {
            let fault = "is not in the exchange's list of message types".to_owned();
            return Err(Refusal::fields(vec![Violation { field: "message_type".into(), fault }]));
        };
        let faults = match serde_json::from_slice::<Unambiguous>(payload) {
            Ok(Unambiguous(payload)) if schema.validator.is_valid(&payload) => return Ok(()),
            Ok(Unambiguous(payload)) => schema.broken(&payload),
            // Says what and where, and never repeats the text.
            Err(cause) => vec![format!("is not JSON: {cause}")],
        };
        let violations = faults.into_iter().map(|fault| Violation { field: "payload".into(), fault });
        Err(Refusal::fields(violations.collect()))
    }
}

impl From<MessageTypes> for Catalogue {
    /// Types without schemas: what one of them names a schema for is refused in JSON.
    fn from(types: MessageTypes) -> Self {
        Self { types, schemas: BTreeMap::new() }
    }
}

impl TryFrom<CatalogueFiles> for Catalogue {
    type Error = Vec<String>;

    fn try_from(files: CatalogueFiles) -> Result<Self, Vec<String>> {
        let (mut definitions, mut schemas, mut faults) = (Vec::new(), BTreeMap::new(), Vec::new());
        for name in files.files.keys().filter(|name| name.ends_with(".toml")) {
            let (definition, schema) = match read_one(&files, name) {
                Ok(read) => read,
                Err(found) => {
                    faults.extend(found);
                    continue;
                }
            };
            schemas.extend(schema.map(|schema| (definition.name.clone(), schema)));
            definitions.push(definition);
        }
        // Two files can not have the same type: it is named like its file.
        if faults.is_empty() { Ok(Self { types: definitions.into_iter().collect(), schemas }) } else { Err(faults) }
    }
}

fn read_one(files: &CatalogueFiles, name: &str) -> Result<(Definition, Option<Schema>), Vec<String>> {
    let path = files.dir.join(name);
    let fault = |fault: String| format!("{}: {fault}", path.display());
    let bytes = files.files.get(name).map(Vec::as_slice).unwrap_or_default();
    let text = std::str::from_utf8(bytes).map_err(|cause| vec![fault(cause.to_string())])?;
    let definition: Definition =
        toml::from_str(text).map_err(|cause| vec![fault(cause.to_string().trim_end().to_owned())])?;
    let mut faults: Vec<String> = definition.faults().iter().map(|found| fault(found.to_string())).collect();
    if Some(definition.name.as_str()) != name.strip_suffix(".toml") {
        faults.push(fault("name: must be the file's name without .toml".to_owned()));
    }
    let mut schema = None;
    if let Some(named) = &definition.schema {
        match files.files.get(named).map(|text| Schema::read(text)) {
            None => faults.push(fault(format!("schema: there is no file {named} beside it"))),
            Some(Err(cause)) => faults.push(format!("{}: {cause}", files.dir.join(named).display())),
            Some(Ok(read)) => schema = Some(read),
        }
    }
    if faults.is_empty() { Ok((definition, schema)) } else { Err(faults) }
}

/// A JSON Schema, compiled.
struct Schema {
    validator: Validator,
    text: Value,
    /// The names that it gives to properties. Only these may be told of a payload.
    names: BTreeSet<String>,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema of {} names", self.names.len())
    }
}

impl Schema {
    fn read(text: &[u8]) -> Result<Self, String> {
        let Unambiguous(text) = serde_json::from_slice(text).map_err(|cause| cause.to_string())?;
        if text.get("$schema").and_then(Value::as_str) != Some(DIALECT) {
            return Err(format!("$schema: must be {DIALECT}"));
        }
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            // Linear in the payload's length, whatever the pattern; it knows no look-around.
            .with_pattern_options(PatternOptions::regex())
            .with_format(IDENTITY_CODE, |text| text.parse::<IdentityCode>().is_ok())
            .should_validate_formats(true)
            // A format that is misspelt would check nothing.
            .should_ignore_unknown_formats(false)
            // A schema is whole by itself: nothing is fetched.
            .offline()
            .build(&text)
            // Of the schema itself the place is told as it is, and so is the value: both are the operators' own.
            .map_err(|cause| format!("{}: {cause}", cause.instance_path().as_str()))?;
        let mut names = BTreeSet::new();
        collect_names(&text, &mut names);
        Ok(Self { validator, text, names })
    }

    /// The rules that a payload breaks, the first of them.
    fn broken(&self, payload: &Value) -> Vec<String> {
        self.validator.iter_errors(payload).take(MOST_VIOLATIONS).map(|error| self.told(&error)).collect()
    }

    /// A broken rule as the schema has it: `at /person/id: must follow "format": "date"`.
    fn told(&self, error: &ValidationError<'_>) -> String {
        let keyword = error.kind().keyword();
        let rule = if let ValidationErrorKind::Required { property } = error.kind() {
            // Of the list only what is missing.
            Some(property.to_string())
        } else {
            self.text.pointer(error.schema_path().as_str()).map(Value::to_string)
        };
        let rule = rule.filter(|rule| rule.len() <= LONGEST_RULE).map(|rule| format!(": {rule}")).unwrap_or_default();
        format!("{}: must follow \"{keyword}\"{rule}", self.place(error.instance_path()))
    }

    fn place(&self, location: &Location) -> String {
        let mut pointer = String::new();
        for segment in location.segments() {
            pointer.push('/');
            match segment {
                LocationSegment::Index(index) => pointer.push_str(&index.to_string()),
                LocationSegment::Property(name) if self.names.contains(name.as_ref()) => {
                    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                }
                // A name that the sender chose may be anything.
                LocationSegment::Property(_) => pointer.push('*'),
            }
        }
        if pointer.is_empty() { "as a whole".to_owned() } else { format!("at {pointer}") }
    }
}

fn collect_names(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                names.extend(properties.keys().cloned());
            }
            object.values().for_each(|inner| collect_names(inner, names));
        }
        Value::Array(array) => array.iter().for_each(|inner| collect_names(inner, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// JSON in which no object has a property twice. Of two such properties one reader takes the first and another the last: what was
/// checked here would not be what the recipient reads.
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Unambiguous(value)) = values.next_element()? {
            array.push(value);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut properties: A) -> Result<Value, A::Error> {
        let mut object = serde_json::Map::new();
        while let Some((name, Unambiguous(value))) = properties.next_entry::<String, _>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a property is there twice"));
            }
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use airut_domain::refusal::Reason;
    use tempfile::TempDir;

    use super::*;

    const TYPE: &str = r#"
        name = "decision"
        title = "A decision"
        from = ["kela"]
        to = ["kind:authority"]
        max-bytes = 1024
        content-types = ["application/json", "text/plain"]
        schema = "decision.schema.json"
        subject = "required"
        ordering = "none"
        attempts = 5
        back-off-seconds = 10
        expires-hours = 24
    "#;

    const SCHEMA: &str = r##"{
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["person", "decided"],
        "additionalProperties": {"type": "string"},
        "properties": {
            "person": {"$ref": "#/$defs/person"},
            "decided": {"type": "string", "format": "date"},
            "amount": {"type": "integer", "minimum": 0}
        },
        "$defs": {
            "person": {
                "type": "object",
                "required": ["id"],
                "properties": {"id": {"type": "string", "format": "personal-identity-code"}}
            }
        }
    }"##;

    const GOOD: &str = r#"{"person": {"id": "010190-900P"}, "decided": "2026-11-25", "amount": 5}"#;

    fn files(files: &[(&str, &str)]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| fs::write(dir.path().join(name), text).unwrap());
        dir
    }

    fn catalogue() -> Catalogue {
        Catalogue::load(files(&[("decision.toml", TYPE), ("decision.schema.json", SCHEMA)]).path()).unwrap()
    }

    fn checked(payload: &str) -> Vec<String> {
        let catalogue = catalogue();
        let definition = catalogue.types().find(&"decision".parse().unwrap()).unwrap();
        let Err(refusal) = catalogue.check(definition, JSON, payload.as_bytes()) else { return Vec::new() };
        assert_eq!(refusal.reason, Reason::InvalidField);
        assert!(refusal.violations.iter().all(|violation| violation.field == "payload"));
        refusal.violations.into_iter().map(|violation| violation.fault).collect()
    }

    #[test]
    fn a_payload_that_follows_its_schema_passes() {
        assert_eq!(checked(GOOD), [""; 0]);
    }

    #[test]
    fn every_broken_rule_is_told_with_its_place_and_without_the_value() {
        let told = checked(r#"{"person": {"id": "010190-900X"}, "decided": "yesterday", "amount": -1}"#);
        let expected = [
            r#"at /amount: must follow "minimum": 0"#,
            r#"at /decided: must follow "format": "date""#,
            r#"at /person/id: must follow "format": "personal-identity-code""#,
        ];
        assert_eq!(told, expected);
        assert_eq!(checked(r#"{"decided": "2026-11-25"}"#), [r#"as a whole: must follow "required": "person""#]);
        assert_eq!(checked("[]"), [r#"as a whole: must follow "type": "object""#]);
    }

    #[test]
    fn a_name_that_the_schema_does_not_know_is_not_repeated() {
        let told = checked(&GOOD.replace("\"amount\"", "\"010190-900P\""));
        assert_eq!(told, [r#"at /*: must follow "type": "string""#]);
    }

    #[test]
    fn what_is_not_json_or_can_be_read_in_two_ways_is_refused() {
        for payload in ["", "{", "\u{feff}{}", "{} {}", "NaN"] {
            let told = checked(payload);
            assert!(told.len() == 1 && told[0].starts_with("is not JSON: "), "{payload}: {told:?}");
        }
        let twice = GOOD.replace("\"amount\": 5", "\"amount\": 5, \"amount\": -5");
        assert!(checked(&twice)[0].contains("a property is there twice"));
        assert!(checked(&"[".repeat(100_000))[0].contains("recursion limit"));
    }

    #[test]
    fn more_faults_than_can_be_told_are_cut() {
        let unknown: Vec<String> = (0..100).map(|number| format!("\"x{number}\": 1")).collect();
        assert_eq!(checked(&format!("{{{}}}", unknown.join(","))).len(), MOST_VIOLATIONS);
    }

    #[test]
    fn a_schema_is_for_json_alone_and_its_absence_lets_nothing_pass() {
        let catalogue = catalogue();
        let definition = catalogue.types().find(&"decision".parse().unwrap()).unwrap();
        assert_eq!(catalogue.check(definition, "text/plain", b"anything"), Ok(()));
        let refusal = Catalogue::default().check(definition, JSON, GOOD.as_bytes()).unwrap_err();
        assert_eq!(refusal.violations[0].field, "message_type");
    }

    #[test]
    fn every_fault_of_every_file_is_told_at_once() {
        let dir = files(&[
            ("a.toml", &TYPE.replace("decision", "b").replace("1024", "0").replace("attempts = 5", "attempts = 0")),
            ("c.toml", "name = "),
            ("d.toml", &TYPE.replace("decision", "d")),
            ("d.schema.json", &SCHEMA.replace("\"format\": \"date\"", "\"format\": \"dote\"")),
            ("e.toml", &TYPE.replace("decision", "e")),
            ("e.schema.json", &SCHEMA.replace("2020-12", "2019-09")),
            ("f.toml", &TYPE.replace("decision", "f")),
            ("f.schema.json", &SCHEMA.replace("#/$defs/person", "https://schemas.example/person")),
            ("g.toml", &TYPE.replace("decision", "g")),
            ("g.schema.json", &SCHEMA.replace("\"minimum\": 0", "\"minimum\": \"none\"")),
        ]);
        let faults = Catalogue::load(dir.path()).unwrap_err();
        let at = |file: &str| dir.path().join(file).display().to_string();
        for (file, fault) in [
            ("a.toml", "max-bytes: must be 1 to 1048576"),
            ("a.toml", "attempts: must be 1 to 100"),
            ("a.toml", "name: must be the file's name without .toml"),
            ("a.toml", "schema: there is no file b.schema.json beside it"),
            ("c.toml", "TOML parse error"),
            ("d.schema.json", "/properties/decided/format: "),
            ("e.schema.json", "$schema: must be https://json-schema.org/draft/2020-12/schema"),
            ("f.schema.json", ""),
            ("g.schema.json", "/properties/amount/minimum: "),
        ] {
            let start = format!("{}: {fault}", at(file));
            assert!(faults.iter().any(|told| told.starts_with(&start)), "{start} is missing in {faults:#?}");
        }
        assert_eq!(faults.len(), 9, "{faults:#?}");
    }

    #[test]
    fn a_second_look_at_the_same_files_is_told_from_a_change() {
        let dir = files(&[("decision.toml", TYPE), ("decision.schema.json", SCHEMA)]);
        let first = CatalogueFiles::read(dir.path()).unwrap();
        assert_eq!(CatalogueFiles::read(dir.path()).unwrap(), first);
        fs::write(dir.path().join("decision.schema.json"), SCHEMA.replace("\"minimum\": 0", "\"minimum\": 1")).unwrap();
        assert_ne!(CatalogueFiles::read(dir.path()).unwrap(), first);
        assert!(CatalogueFiles::read(&dir.path().join("nowhere")).is_err());
    }

    /// `cargo test --release -p airut-exchange --lib -- --ignored --nocapture what_a_check_costs`
    #[test]
    #[ignore = "a measurement"]
    #[allow(clippy::print_stdout, reason = "a measurement")]
    fn what_a_check_costs() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/exchange");
        let catalogue = Catalogue::load(&dir.join("message-types")).unwrap();
        for definition in catalogue.types().iter().filter(|definition| definition.schema.is_some()) {
            let sample = fs::read(dir.join(format!("samples/{}.json", definition.name))).unwrap();
            let rounds = 20_000_u32;
            let began = Instant::now();
            for _ in 0..rounds {
                catalogue.check(definition, JSON, std::hint::black_box(&sample)).unwrap();
            }
            println!("{:>32} {:>5} bytes {:>10?}", definition.name, sample.len(), began.elapsed() / rounds);
        }
    }
}
