//! Where the keys of log-ins are, and what must not count again.

use std::path::{Path, PathBuf};

use adit::config::reader::Object;

use super::Base;
use crate::identity_key::IdentityKey;
use crate::login::hand_over::CallbackHost;

/// Where the keys of log-ins are, and what must not count again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogInConfig {
    /// The first one seals cookies, all of them open cookies. Empty: the gateway's `key_file` does both.
    pub key_files: Vec<PathBuf>,
    /// Remembers log-ins that were used and sessions that were ended. `None`: beside `key_file`.
    pub spent_file: Option<PathBuf>,
    /// Where providers send people back to; `None`: to each endpoint's own host.
    pub callback_host: Option<CallbackHost>,
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
        let parsed = section.string("callback_host").map(|text| CallbackHost::parse(&text));
        let parsed = parsed.transpose().inspect_err(|expected| section.problem("callback_host", expected));
        let callback_host = parsed.ok().flatten();
        section.finish();
        Self { key_files, spent_file, callback_host }
    }

    /// The file that remembers what must not count again.
    #[must_use]
    pub fn spent_file(&self, key_file: &Path) -> PathBuf {
        self.spent_file.clone().unwrap_or_else(|| key_file.with_extension("spent"))
    }
}

/// One in force and those before it.
const KEY_FILES_MAX: usize = 8;
