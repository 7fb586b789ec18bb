//! Every action and every field has an example that is accepted, one that is refused, and a test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use adit::endpoint_url::EndpointUrl;
use serde_json::{Map, Value, json};

use super::super::super::phase::Phase;
use super::super::super::place::Place;
use super::super::super::{Own, Policy, PolicyError, Vaults};
use super::super::{KINDS, Kind};

/// One file of the table.
struct Entry {
    kind: &'static Kind,
    smallest: Value,
    /// It is only for policies of cloud endpoints.
    is_cloud: bool,
    fields: BTreeMap<String, Value>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/policy")
}

fn entry(kind: &'static Kind) -> Entry {
    let file = root().join(format!("{}.yaml", kind.name));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| {
        panic!("the action {} is not in the table: write {}: {error}", kind.name, file.display())
    });
    let value: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let fields = value["fields"].as_object().cloned().unwrap_or_else(|| panic!("{}: no fields", file.display()));
    Entry {
        kind,
        smallest: value["smallest"].clone(),
        is_cloud: value["cloud"] == true,
        fields: fields.into_iter().collect(),
    }
}

/// The mistakes of a policy whose only action has this configuration.
fn mistakes(kind: &Kind, phase: Phase, config: &Value, is_cloud: bool) -> Vec<PolicyError> {
    let scheme = if phase == Phase::TcpConnect { "tls" } else { "https" };
    let host = EndpointUrl::parse(&format!("{scheme}://app.example.com")).unwrap();
    // An endpoint of the gateway's own must not let anything through, and an HTTP one has no raw bytes to hand on.
    let place = if is_cloud { Place::cloud(&host) } else { Place::agent(&host) };
    let config = with_scheme(config, scheme);
    let mut document = Map::new();
    document.insert(phase.as_str().into(), json!([{"actions": [{"type": kind.name, "config": config}]}]));
    if is_cloud {
        let last = Phase::last_of(place.scheme()).as_str();
        let rules = document.entry(last).or_insert_with(|| json!([])).as_array_mut().unwrap();
        rules.push(json!({"actions": [{"type": "deny"}]}));
    }
    let (own, directory) = (Own::new(Vaults::new()), root().join("files"));
    match Policy::from_value_with(&Value::Object(document), place, &own, &directory) {
        Ok(_) => Vec::new(),
        // What comes behind an action that ends the policy is there for the others.
        Err(errors) => errors.errors().iter().filter(|error| error.code != 2207).cloned().collect(),
    }
}

/// The examples are for https; where the phase is the connection's, the same is meant for tls.
fn with_scheme(config: &Value, scheme: &str) -> Value {
    match config {
        Value::String(text) if text.ends_with(".internal") => text.replacen("https:", &format!("{scheme}:"), 1).into(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), with_scheme(value, scheme))).collect(),
        other => other.clone(),
    }
}

fn phase_of(kind: &Kind, field: &Value) -> Phase {
    let named = field["phase"].as_str();
    let is_named = |phase: &&Phase| named.is_none_or(|name| phase.as_str() == name);
    *kind.phases.iter().find(is_named).unwrap_or_else(|| panic!("{}: no phase {named:?}", kind.name))
}

/// Every config with a field that is in no reference, at the top and in every object of a known shape; what the errors say
/// that there is instead. Names of members of `at[]` come with `at[].` in front.
fn known_fields(kind: &Kind, phase: Phase, config: &Value, is_cloud: bool) -> BTreeSet<String> {
    let mut changed = config.clone();
    mark(&mut changed);
    let mut known = BTreeSet::new();
    for error in mistakes(kind, phase, &changed, is_cloud) {
        let Some((place, UNKNOWN)) = error.path.rsplit_once('.') else { continue };
        let list = error.message.split_once("it has ").or_else(|| error.message.split_once("there is "));
        let Some((_, list)) = list.filter(|_| error.message.starts_with("is not a field")) else { continue };
        let place = place.split_once(".config").map_or("", |(_, inside)| inside).trim_start_matches('.');
        for name in list.split(", ").filter(|name| *name != "none here") {
            let name = if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
            known.insert(name.replace("[0]", "[]").replace("[1]", "[]"));
        }
    }
    known
}

fn mark(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(mark);
            map.insert(UNKNOWN.into(), Value::Null);
        }
        Value::Array(list) => list.iter_mut().for_each(mark),
        _ => {}
    }
}

const UNKNOWN: &str = "of-no-reference";

/// The names of all functions in the gateway's sources and tests.
fn functions() -> BTreeSet<String> {
    fn collect(folder: &Path, found: &mut BTreeSet<String>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                collect(&path, found)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path)?;
                let mut is_test = false;
                for line in text.lines() {
                    let line = line.trim_start();
                    let name = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "));
                    match name.and_then(|rest| rest.split_once('(')) {
                        Some((name, _)) if is_test => _ = found.insert(name.to_owned()),
                        _ => {}
                    }
                    is_test = line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                }
            }
        }
        Ok(())
    }
    let mut found = BTreeSet::new();
    for folder in ["src", "tests"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found).unwrap();
    }
    found
}

#[test]
fn table_has_no_action_that_there_is_not() {
    for file in fs::read_dir(root()).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let is_known = KINDS.iter().any(|kind| kind.name == name) || ["README", "files"].contains(&&*name);
        assert!(is_known, "{}: there is no such action", path.display());
    }
}

#[tokio::test]
async fn every_action_and_every_field_has_its_examples_and_its_test() {
    let functions = functions();
    for kind in KINDS {
        let entry = entry(kind);
        for phase in kind.phases {
            assert_eq!(mistakes(kind, *phase, &entry.smallest, entry.is_cloud), [], "{} in {phase}", kind.name);
            check_fields_of(&entry, *phase, &entry.smallest, entry.is_cloud);
        }
        for (name, field) in &entry.fields {
            let (at, is_cloud) = (format!("{} {name}", entry.kind.name), field["cloud"] == true);
            let phase = phase_of(kind, field);
            assert_eq!(mistakes(kind, phase, &field["accepted"], is_cloud), [], "{at}");
            check_fields_of(&entry, phase, &field["accepted"], is_cloud);
            if is_cloud {
                assert_ne!(mistakes(kind, phase, &field["accepted"], false), [], "{at}: an agent's policy may, too");
            }
            let place = field["at"].as_str().unwrap_or(name);
            let path = format!("{phase}[0].actions[0].config.{place}");
            let found: Vec<(String, u64)> = mistakes(kind, phase, &field["refused"], is_cloud)
                .into_iter()
                .map(|error| (error.path, error.code.into()))
                .collect();
            let path = path.trim_end_matches('.').to_owned();
            assert_eq!(found, [(path, field["code"].as_u64().unwrap_or_default())], "{at}");
            let test = field["test"].as_str().unwrap_or_default();
            assert!(functions.contains(test), "{at}: there is no test {test:?}");
            let known = ["accepted", "refused", "at", "code", "test", "phase", "cloud"];
            let other = field.as_object().into_iter().flat_map(Map::keys).find(|key| !known.contains(&key.as_str()));
            assert_eq!(other, None, "{at}");
        }
    }
}

/// Whatever an example shows to be a field is in the table.
fn check_fields_of(entry: &Entry, phase: Phase, config: &Value, is_cloud: bool) {
    for field in known_fields(entry.kind, phase, config, is_cloud) {
        let is_part = |name: &String| {
            name.strip_prefix(&field)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with('['))
        };
        assert!(entry.fields.keys().any(is_part), "{}: {field} is not in the table", entry.kind.name);
    }
}
