//! The message types in force: their definitions from files, and the schemas that their payloads follow.

use std::{collections::BTreeMap, fs, path::Path};

use airut_domain::{
    id::MessageType,
    message_type::{Definition, MessageTypes},
    refusal::{Refusal, Violation},
};
use jsonschema::{Validator, error::ValidationErrorKind};
use serde_json::Value;

/// As many faults of a payload are told at once.
const MOST_FAULTS: usize = 8;

/// Every message type, with its compiled schema where it has one.
#[derive(Debug, Default)]
pub struct Catalogue {
    types: MessageTypes,
    schemas: BTreeMap<MessageType, Validator>,
}

impl Catalogue {
    /// Reads every `*.toml` of a directory, and the schemas that they name beside them.
    ///
    /// # Errors
    /// Every fault at once, each with its file.
    pub fn load(dir: &Path) -> Result<Self, Vec<String>> {
        let entries = fs::read_dir(dir).map_err(|cause| vec![format!("{}: {cause}", dir.display())])?;
        let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        paths.sort();
        let (mut definitions, mut schemas, mut faults) = (Vec::<Definition>::new(), BTreeMap::new(), Vec::new());
        for path in paths {
            let (definition, schema) = match read(&path) {
                Ok(read) => read,
                Err(found) => {
                    faults.extend(found.into_iter().map(|fault| format!("{}: {fault}", path.display())));
                    continue;
                }
            };
            if definitions.iter().any(|other| other.name == definition.name) {
                faults.push(format!("{}: {} is defined in another file too", path.display(), definition.name));
            }
            schemas.extend(schema.map(|schema| (definition.name.clone(), schema)));
            definitions.push(definition);
        }
        if faults.is_empty() { Ok(Self { types: definitions.into_iter().collect(), schemas }) } else { Err(faults) }
    }

    /// The definitions.
    pub fn types(&self) -> &MessageTypes {
        &self.types
    }

    /// Whether a payload follows its type's schema.
    ///
    /// # Errors
    /// Where in the payload what rule is broken. Never what stands there.
    pub fn check(&self, definition: &Definition, content_type: &str, payload: &[u8]) -> Result<(), Refusal> {
        let Some(schema) = self.schemas.get(&definition.name).filter(|_| content_type == "application/json") else {
            return Ok(());
        };
        let fault = |fault: String| Violation { field: "payload".into(), fault };
        let value: Value = serde_json::from_slice(payload).map_err(|cause| {
            Refusal::fields(vec![fault(format!("is not JSON: line {} column {}", cause.line(), cause.column()))])
        })?;
        if schema.is_valid(&value) {
            return Ok(());
        }
        let told = |error: jsonschema::ValidationError<'_>| {
            let at = error.instance_path().to_string();
            let at = if at.is_empty() { "/".to_owned() } else { at };
            // The name is the schema's; a text of the payload is never told.
            if let ValidationErrorKind::Required { property: Value::String(name) } = error.kind() {
                return fault(format!("lacks {name} at {at}"));
            }
            fault(format!("breaks the rule {} of its schema at {at}", error.schema_path()))
        };
        Err(Refusal::fields(schema.iter_errors(&value).take(MOST_FAULTS).map(told).collect()))
    }
}

impl From<MessageTypes> for Catalogue {
    fn from(types: MessageTypes) -> Self {
        Self { types, schemas: BTreeMap::new() }
    }
}

fn read(path: &Path) -> Result<(Definition, Option<Validator>), Vec<String>> {
    let text = fs::read_to_string(path).map_err(|cause| vec![cause.to_string()])?;
    let definition: Definition =
        toml::from_str(&text).map_err(|cause| vec![cause.to_string().trim_end().to_owned()])?;
    let mut faults: Vec<String> = definition.faults().iter().map(ToString::to_string).collect();
    let mut schema = None;
    if let Some(name) = &definition.schema {
        match compile(&path.with_file_name(name)) {
            Ok(compiled) => schema = Some(compiled),
            Err(fault) => faults.push(format!("schema: {name}: {fault}")),
        }
    }
    if faults.is_empty() { Ok((definition, schema)) } else { Err(faults) }
}

fn compile(path: &Path) -> Result<Validator, String> {
    let text = fs::read_to_string(path).map_err(|cause| cause.to_string())?;
    let schema: Value = serde_json::from_str(&text).map_err(|cause| cause.to_string())?;
    jsonschema::draft202012::new(&schema).map_err(|cause| cause.to_string())
}
