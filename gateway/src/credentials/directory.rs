//! A directory of credentials: `*.yml`, one credential each.
//!
//! A file that cannot be used, or is only half written, leaves its credential as it was. A file that is gone takes its
//! credential away. Both are believed at the second look that sees the same: some editors move the old file away first.
//! Another directory without a file where files were known is taken for a disk that is not mounted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use super::file;
use crate::certificate_watch::{FileStamp, file_stamp};
use crate::config::accounts::{Accounts, Credential};

/// What is known of a directory of credentials.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    /// The directory whose files are known.
    place: Option<Inode>,
    files: BTreeMap<String, Known>,
    /// Which file has an id. Of two that claim one, the first that had it keeps it.
    holders: HashMap<Arc<str>, String>,
    /// The directory cannot be read, which has been told.
    is_unreadable: bool,
    /// There are more files than are read, which has been told.
    is_overfull: bool,
}

/// Device and inode.
type Inode = (u64, u64);

/// What is known of one file.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The file as it was read last, whether it was fit for use or not.
    read: Option<FileStamp>,
    /// The file as it looked at the last look.
    seen: Option<FileStamp>,
    /// What it said when it was fit for use.
    credential: Option<Arc<Credential>>,
    /// It has been read since it was last decided whose its id is.
    is_new: bool,
    /// Its id is another one's, which has been told.
    is_refused: bool,
}

/// What one look has found, for the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Whether [`Directory::credentials`] are others than before.
    pub is_changed: bool,
    /// What has changed.
    pub told: Vec<String>,
    /// What cannot be used.
    pub problems: Vec<String>,
}

impl Directory {
    /// Reads a directory at once, without waiting for anything to settle.
    ///
    /// # Errors
    ///
    /// It cannot be listed, or has more entries than [`ENTRIES_MAX`].
    pub fn read(path: PathBuf, accounts: &Accounts) -> Result<(Self, Vec<String>), String> {
        let (place, names) = list(&path)?;
        let mut directory = Self {
            path,
            place,
            files: BTreeMap::new(),
            holders: HashMap::new(),
            is_unreadable: false,
            is_overfull: false,
        };
        let mut found = Found::default();
        for name in directory.within_limit(names, &mut found) {
            let stamp = file_stamp(&directory.path.join(&name));
            let mut known = Known { seen: stamp, ..Known::default() };
            known.read(&directory.path.join(&name), stamp, accounts, &mut found);
            directory.files.insert(name, known);
        }
        directory.settle(accounts, &mut found);
        Ok((directory, found.problems))
    }

    /// Looks at all files once. It costs one system call a file, and reads what has changed.
    pub fn look(&mut self, accounts: &Accounts) -> Found {
        let mut found = Found::default();
        let (place, names) = match list(&self.path).and_then(|listed| self.check_mounted(listed)) {
            Ok(listed) => listed,
            Err(error) => {
                // A disk that is away for a moment cuts nobody off.
                if !std::mem::replace(&mut self.is_unreadable, true) {
                    found.problems.push(format!("{error}; what is known of the credentials in it stays"));
                }
                return found;
            }
        };
        self.is_unreadable = false;
        self.place = place;
        let names = self.within_limit(names, &mut found);
        let mut is_read = false;
        for name in &names {
            let file = self.path.join(name);
            is_read |= self.files.entry(name.clone()).or_default().look(&file, accounts, &mut found);
        }
        let before = self.files.len();
        // Whoever was there at the last look stays for this one.
        self.files.retain(|name, known| names.contains(name) || known.seen.take().is_some());
        if is_read || self.files.len() != before {
            self.settle(accounts, &mut found);
        }
        found
    }

    /// Another directory without files is as a rule the place where a disk is to be mounted: it revokes nobody.
    fn check_mounted(&self, listed: Listed) -> Result<Listed, String> {
        let (place, names) = &listed;
        if names.is_empty() && *place != self.place && !self.files.is_empty() {
            return Err(format!(
                "{}: is not the directory that was read before, and has no *.{EXTENSION}, as where a disk is not mounted: \
                 mount it again, or put one *.{EXTENSION} in it if it is to take the place of the other",
                self.path.display()
            ));
        }
        Ok(listed)
    }

    /// The credentials that are in force, in no order.
    pub fn credentials(&self) -> impl Iterator<Item = &Arc<Credential>> {
        self.holders.values().filter_map(|name| self.files.get(name)?.credential.as_ref())
    }

    /// After a reading of everything: takes the credentials from `old` whose files cannot be used now.
    pub(crate) fn keep_from(&mut self, old: &Self, accounts: &Accounts) {
        if old.path != self.path {
            return;
        }
        if old.check_mounted((self.place, self.files.keys().cloned().collect())).is_err() {
            (self.place, self.is_unreadable) = (old.place, old.is_unreadable);
            self.files = old.files.keys().map(|name| (name.clone(), Known::default())).collect();
        }
        for (name, known) in &mut self.files {
            let before = old.files.get(name).and_then(|before| before.credential.as_ref());
            if known.credential.is_none() {
                known.credential = before.filter(|kept| accounts.account(&kept.account).is_some()).cloned();
            }
        }
        self.holders.clone_from(&old.holders);
        self.settle(accounts, &mut Found::default());
    }

    /// At most [`FILES_MAX`] names; those that are known come first.
    fn within_limit(&mut self, mut names: BTreeSet<String>, found: &mut Found) -> BTreeSet<String> {
        let excess = names.len().saturating_sub(FILES_MAX);
        if excess == 0 {
            self.is_overfull = false;
            return names;
        }
        let new: Vec<String> = names.iter().rev().filter(|name| !self.files.contains_key(*name)).cloned().collect();
        for name in new.iter().take(excess) {
            names.remove(name);
        }
        if !std::mem::replace(&mut self.is_overfull, true) {
            let shown = self.path.display();
            found.problems.push(format!("{shown}: has more than {FILES_MAX} files: {excess} of them are not read"));
        }
        names
    }

    /// Decides which file has which id, and says what is different from before.
    fn settle(&mut self, accounts: &Accounts, found: &mut Found) {
        let before = std::mem::take(&mut self.holders);
        let claim = |(name, known): (&String, &Known)| {
            let id = Arc::clone(&known.credential.as_ref()?.id);
            let is_new = before.get(&id) != Some(name);
            Some((is_new, name.clone(), id))
        };
        let mut claims: Vec<_> = self.files.iter().filter_map(claim).collect();
        claims.sort();
        for (_, name, id) in claims {
            let other = if accounts.is_listed(&id) {
                Some("the gateway's own file")
            } else {
                self.holders.get(&id).map(String::as_str)
            };
            let Some(known) = self.files.get_mut(&name) else { continue };
            let Some(other) = other else {
                known.is_refused = false;
                if std::mem::take(&mut known.is_new) || before.get(&id) != Some(&name) {
                    found.is_changed = true;
                    found.told.push(format!("the credential {id} is that of {name}"));
                }
                self.holders.insert(id, name);
                continue;
            };
            if !std::mem::replace(&mut known.is_refused, true) {
                let shown = self.path.join(name).display().to_string();
                found.problems.push(format!("{shown}: is not used: {id} is the id of a credential in {other} already"));
            }
        }
        let gone = before.iter().filter(|(id, _)| !self.holders.contains_key(*id));
        for (id, name) in gone {
            found.is_changed = true;
            found.told.push(format!("the credential {id} is gone with {name}"));
        }
    }
}

impl Known {
    /// Looks at the file; tells whether it was read.
    fn look(&mut self, file: &Path, accounts: &Accounts, found: &mut Found) -> bool {
        let stamp = file_stamp(file);
        let is_settled = stamp == self.seen;
        self.seen = stamp;
        if stamp.is_none() || stamp == self.read || !is_settled {
            return false;
        }
        self.read(file, stamp, accounts, found);
        true
    }

    fn read(&mut self, file: &Path, stamp: Option<FileStamp>, accounts: &Accounts, found: &mut Found) {
        self.read = stamp;
        match file::read(file, accounts) {
            Ok(credential) if self.credential.as_deref() == Some(&credential) => {}
            Ok(credential) => {
                self.credential = Some(Arc::new(credential));
                (self.is_new, self.is_refused) = (true, false);
            }
            Err(problem) => {
                let kept = self.credential.as_ref().map(|kept| format!("; the credential {} stays as it was", kept.id));
                found.problems.push(format!("{problem}{}", kept.unwrap_or_default()));
            }
        }
    }
}

/// A directory, and the names of the files in it that count.
type Listed = (Option<Inode>, BTreeSet<String>);

fn list(directory: &Path) -> Result<Listed, String> {
    // First which one it is: when its disk goes away in between, that is noticed at the second look without files.
    let place = fs::metadata(directory).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    Ok((place, names(directory)?))
}

/// The names of the files that count. Those of editors and of half-written files end otherwise, or begin with a dot.
fn names(directory: &Path) -> Result<BTreeSet<String>, String> {
    let cannot = |error: io::Error| format!("{}: cannot be listed: {error}", directory.display());
    let mut names = BTreeSet::new();
    for (count, entry) in fs::read_dir(directory).map_err(cannot)?.enumerate() {
        if count >= ENTRIES_MAX {
            return Err(format!("{}: has more than {ENTRIES_MAX} entries", directory.display()));
        }
        let name = entry.map_err(cannot)?.file_name();
        let is_wanted = Path::new(&name).extension() == Some(OsStr::new(EXTENSION));
        if let (true, Some(name)) = (is_wanted, name.to_str())
            && !name.starts_with('.')
        {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

/// What the names of the files end with.
pub(super) const EXTENSION: &str = "yml";
/// One per agent, as many as the gateway's own file may have.
pub const FILES_MAX: usize = 10_000;
/// Files of others among them; a directory with more is not one of credentials.
pub const ENTRIES_MAX: usize = 4 * FILES_MAX;

#[cfg(test)]
mod tests;
