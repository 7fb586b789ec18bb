//! Where the keys of log-ins are, and what must not count again.

use std::path::PathBuf;

use adit::config::reader::Object;

use super::Base;
use crate::identity_key::IdentityKey;

/// Where the keys of log-ins are, and what must not count again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogInConfig {
    /// The first one seals cookies, all of them open cookies. Empty: the gateway's `key_file` does both.
    pub key_files: Vec<PathBuf>,
    /// Remembers log-ins that were used and sessions that were ended. `None`: beside `key_file`.
    pub spent_file: Option<PathBuf>,
}

impl LogInConfig {
    pub(super) fn read(section: Option<Object<'_>>, base: &Base) -> Self {
        let Some(mut section) = section else { return Self::default() };
        let mut key_files = Vec::new();
        for (path, text) in section.strings("key_files", KEY_FILES_MAX) {
            let file = base.resolve(&text);
            match IdentityKey::load(&file) {
                Ok(Some(_)) => key_files.push(file),
                Ok(None) => {
                    let expected = "is not there: make it with `openssl rand -hex 32`, with mode 0600";
                    section.reader().problem(&path, Some(file.display().to_string()), expected);
                }
                Err(error) => section.reader().problem(&path, Some(file.display().to_string()), error),
            }
        }
        let spent_file = section.string("spent_file").map(|text| base.resolve(&text));
        section.finish();
        Self { key_files, spent_file }
    }
}

/// One in force and those before it.
const KEY_FILES_MAX: usize = 8;
