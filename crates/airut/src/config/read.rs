//! Settings as they are written: tables in tables, each value by itself.

use std::{fs, path::Path};

use serde::de::DeserializeOwned;

use super::faults::Faults;

/// The prefix of environment variables.
const PREFIX: &str = "AIRUT__";

/// Reads the file and the environment over it. What is wrong with a setting is added to the faults, and the setting left out.
///
/// # Errors
/// The file can't be read, or is no TOML.
pub(super) fn read<T: DeserializeOwned>(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    faults: &mut Vec<String>,
) -> Result<T, Faults> {
    let mut table = file.map_or_else(|| Ok(toml::Table::new()), table)?;
    for (name, text) in environment {
        if let Some(name) = name.strip_prefix(PREFIX) {
            let keys: Vec<String> = name.split("__").map(str::to_lowercase).collect();
            if let Err(fault) = set(&mut table, &keys, value(&text)) {
                faults.push(format!("{PREFIX}{name}: {fault}"));
            }
        }
    }
    Ok(each(&table, faults))
}

fn table(path: &Path) -> Result<toml::Table, Faults> {
    let fault = |cause: String| Faults(vec![format!("{}: {}", path.display(), cause.trim_end())]);
    let text = fs::read_to_string(path).map_err(|cause| fault(cause.to_string()))?;
    text.parse().map_err(|cause: toml::de::Error| fault(cause.to_string()))
}

/// Reads each setting by itself: of a table as a whole only the first fault would be told.
fn each<T: DeserializeOwned>(table: &toml::Table, faults: &mut Vec<String>) -> T {
    let mut good = toml::Table::new();
    for (keys, value) in settings(table, &[]) {
        let mut alone = toml::Table::new();
        let single = set(&mut alone, &keys, value.clone()).and_then(|()| T::deserialize(alone).map_err(first_line));
        match single.and_then(|_| set(&mut good, &keys, value)) {
            Ok(()) => {}
            Err(fault) => faults.push(format!("{}: {fault}", keys.join("."))),
        }
    }
    T::deserialize(good).expect("each setting is good by itself")
}

fn first_line(cause: toml::de::Error) -> String {
    cause.message().lines().next().unwrap_or_default().to_owned()
}

/// Every value in a table and the tables in it, with the keys that lead to it. An empty table is a value.
fn settings(table: &toml::Table, above: &[String]) -> Vec<(Vec<String>, toml::Value)> {
    let mut settings = Vec::new();
    for (key, value) in table {
        let keys = [above, std::slice::from_ref(key)].concat();
        match value.as_table().filter(|inner| !inner.is_empty()) {
            Some(inner) => settings.extend(self::settings(inner, &keys)),
            None => settings.push((keys, value.clone())),
        }
    }
    settings
}

/// The value of an environment variable: TOML where it is TOML, else text.
fn value(text: &str) -> toml::Value {
    let parsed = format!("v = {text}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("v"));
    parsed.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn set(table: &mut toml::Table, keys: &[String], value: toml::Value) -> Result<(), String> {
    match keys {
        [] => Err("names no setting".to_owned()),
        [key] => {
            table.insert(key.clone(), value);
            Ok(())
        }
        [key, rest @ ..] => {
            let inner = table.entry(key.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            set(inner.as_table_mut().ok_or_else(|| format!("{key} is not a table"))?, rest, value)
        }
    }
}
