//! Secrets that policies of the gateway's own endpoints may name: where they are kept, never what they are.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::env;
use std::sync::Arc;

use adit::config::reader::Object;

use super::certificate::warn_of_exposure;
use super::{Base, bounded_text};
use crate::policy::Vaults;

/// Reads `vaults`: each with a name, and secrets that come from a file or from the environment.
pub(super) fn read(file: &mut Object<'_>, base: &Base) -> Vaults {
    let mut vaults = Vaults::new();
    for mut vault in file.objects("vaults", VAULTS_MAX) {
        let name = vault.required_parsed("name", parse_name);
        let mut secrets = BTreeMap::new();
        for mut entry in vault.objects("secrets", SECRETS_MAX) {
            let name = entry.required_parsed("name", parse_name);
            let value = read_secret(&mut entry, base);
            if let (Some(name), Some(value)) = (name, value) {
                match secrets.entry(name) {
                    Entry::Vacant(free) => _ = free.insert(Arc::from(value)),
                    Entry::Occupied(_) => entry.problem("name", "is there twice in the vault: keep one of them"),
                }
            }
            entry.finish();
        }
        match name.map(|name| vaults.entry(name)) {
            Some(Entry::Vacant(free)) => _ = free.insert(secrets),
            Some(Entry::Occupied(_)) => vault.problem("name", "is there twice: keep one of them"),
            None => {}
        }
        vault.finish();
    }
    vaults
}

fn read_secret(entry: &mut Object<'_>, base: &Base) -> Option<String> {
    entry.refuse("value", "a secret does not stand in this file: name a file or an environment variable that has it");
    let (key, value) = match (entry.has("file"), entry.has("env")) {
        (true, false) => {
            let file = base.resolve(&entry.required_string("file")?);
            warn_of_exposure(entry.reader(), &entry.path_of("file"), &file);
            ("file", bounded_text(&file, SECRET_BYTES_MAX + 1))
        }
        (false, true) => {
            let variable = entry.required_string("env")?;
            ("env", env::var(variable).map_err(|_| "is not set, or not UTF-8 text".to_owned()))
        }
        _ => {
            entry.missing("file", "a file, or with env an environment variable, that has the secret; one of the two");
            return None;
        }
    };
    let value = value.map(|text| text.strip_suffix('\n').map_or(&*text, |line| line.trim_end_matches('\r')).to_owned());
    match value {
        Ok(text) if text.is_empty() => entry.problem(key, "is empty"),
        Ok(text) if text.len() > SECRET_BYTES_MAX => {
            entry.problem(key, format_args!("is longer than {SECRET_BYTES_MAX} bytes"));
        }
        Ok(text) => return Some(text),
        Err(expected) => entry.problem(key, expected),
    }
    None
}

fn parse_name(text: &str) -> Result<String, &'static str> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(is_part) {
        return Err("must be 1 to 128 letters, digits, '-', '_' and '.'");
    }
    Ok(text.to_owned())
}

/// One for each service that the policies of a vendor speak to.
const VAULTS_MAX: usize = 1000;
const SECRETS_MAX: usize = 1000;
/// Keys in PEM have some kilobytes.
const SECRET_BYTES_MAX: usize = 16 * 1024;
const NAME_BYTES_MAX: usize = 128;
