//! One file of the directory: a credential, with the keys that an entry below `credentials` has.

use std::fs;
use std::path::Path;

use adit::config::reader::Reader;

use crate::config::accounts::{Accounts, Credential};
use crate::config::bounded_text;
use crate::yaml;

/// Reads a file, which must be one that can be read to its end.
///
/// # Errors
///
/// The first thing that is wrong with it, with the file's name and the place.
pub(super) fn read(file: &Path, accounts: &Accounts) -> Result<Credential, String> {
    let shown = file.display();
    // What stands for a device or a pipe would never be read to its end.
    if !fs::metadata(file).is_ok_and(|metadata| metadata.is_file()) {
        return Err(format!("{shown}: is no file that can be read"));
    }
    let text = bounded_text(file, FILE_LEN_MAX).map_err(|error| format!("{shown}: {error}"))?;
    let document = yaml::parse(&text).map_err(|error| format!("{shown}: is neither YAML nor JSON: {error}"))?;
    let reader = Reader::new(shown.to_string());
    let tree = reader.accept(document);
    let credential = reader.object(&tree, "").and_then(|entry| Credential::read(entry, accounts));
    match (reader.finish(), credential) {
        (Ok(_), Some(credential)) => Ok(credential),
        (Ok(_), None) => Err(format!("{shown}: must be one credential")),
        (Err(errors), _) => {
            let first = errors.problems().first().map(ToString::to_string);
            Err(first.unwrap_or_else(|| format!("{shown}: must be one credential")))
        }
    }
}

/// A hundred rules and a few hundred networks.
pub(super) const FILE_LEN_MAX: usize = 64 << 10;
