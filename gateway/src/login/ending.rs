//! Sessions that whoever runs the gateway wants to end: the command leaves a file with the name of each in a folder, and the
//! running gateway takes them, also one that starts later.
//!
//! What is to be done is in the names alone: the command needs to read nothing of the gateway's.

use std::fmt;
use std::fs::{DirEntry, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::noted::beside;
use super::store::{LEEWAY_SECS, Noted, SpendError, Store, ended};

/// The folder in which sessions are named that are to end.
#[derive(Clone, Debug)]
pub struct Ending(PathBuf);

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// Why a session goes on.
#[derive(Debug)]
pub enum EndingError {
    /// The folder cannot be read or changed.
    Folder(io::Error),
    /// It cannot be remembered that the session has ended.
    Spend(SpendError),
}

impl Ending {
    /// The folder beside a journal.
    #[must_use]
    pub fn beside(journal: &Path) -> Self {
        Self(beside(journal, ".ending"))
    }

    /// Makes the folder, for the gateway's user alone.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn prepare(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.0)?;
        std::fs::set_permissions(&self.0, Permissions::from_mode(0o700))
    }

    /// Asks for the end of a session.
    ///
    /// # Errors
    ///
    /// The folder is not there, or not to be written.
    pub fn ask(&self, session: &Noted) -> io::Result<()> {
        if !is_id(&session.id) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        File::create(self.0.join(format!("{}.{}", session.id, session.ends)))?.sync_all()?;
        // So that the name survives a crash as well.
        File::open(&self.0)?.sync_all()
    }

    /// How many still wait to be taken.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn waiting(&self) -> io::Result<usize> {
        Ok(std::fs::read_dir(&self.0)?.count())
    }

    /// Ends the sessions that are named, at most [`TAKEN_MAX`] at a time, and gives their ids. May block for as long as a disk takes.
    ///
    /// # Errors
    ///
    /// [`EndingError`]; those before it have ended.
    pub fn take(&self, store: &dyn Store, now: i64) -> Result<Vec<String>, EndingError> {
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(EndingError::Folder(error)),
        };
        let (mut taken, mut failed) = (Vec::new(), None);
        for entry in entries.take(TAKEN_MAX) {
            let ended = entry.map_err(EndingError::Folder).and_then(|entry| take_one(&entry, store, now));
            match ended {
                Ok(session) => taken.extend(session),
                // The others are to end all the same; this one is tried again with the next look.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        // What has ended is told first; what has not comes again.
        match failed {
            Some(error) if taken.is_empty() => Err(error),
            Some(error) => {
                tracing::error!("not every session that is to end has: {error}");
                Ok(taken)
            }
            None => Ok(taken),
        }
    }
}

/// It counts for nobody's share but the operator's: an account whose share is used up must not keep its sessions.
fn take_one(entry: &DirEntry, store: &dyn Store, now: i64) -> Result<Option<String>, EndingError> {
    let name = entry.file_name();
    let session = name.to_str().and_then(read_name);
    if let Some((session, ends)) = session {
        let until = ends.saturating_add(LEEWAY_SECS);
        store.spend(OPERATOR, &ended(session), until, now).map_err(EndingError::Spend)?;
    }
    std::fs::remove_file(entry.path()).map_err(EndingError::Folder)?;
    Ok(session.map(|(session, _)| session.to_owned()))
}

impl std::fmt::Display for EndingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(error) => write!(f, "the folder of sessions that are to end: {error}"),
            Self::Spend(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for EndingError {}

fn read_name(name: &str) -> Option<(&str, i64)> {
    let (session, ends) = name.split_once('.')?;
    Some((session, ends.parse().ok()?)).filter(|(session, _)| is_id(session))
}

fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.len() <= ID_BYTES_MAX && text.bytes().all(is_plain)
}

/// So that one look does not take for ever; the rest comes with the next one.
pub const TAKEN_MAX: usize = 1000;
const ID_BYTES_MAX: usize = 64;
/// No account has an empty name.
const OPERATOR: &str = "";

#[cfg(test)]
mod tests {
    use super::super::spent::Journal;
    use super::*;

    fn noted(id: &str) -> Noted {
        let text = String::new();
        Noted {
            id: id.into(),
            account: "main".into(),
            host: text.clone(),
            subject: text.clone(),
            email: text.clone(),
            begun: 0,
            ends: 100,
            person: text.clone(),
            provider_session: text,
        }
    }

    #[test]
    fn session_that_is_asked_to_end_has_ended_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spent");
        let journal = Journal::open(&path, 0).unwrap();
        let ending = Ending::beside(&path);
        assert_eq!(ending.take(&journal, 0).unwrap(), [""; 0]);
        ending.prepare().unwrap();
        for id in ["a", "b"] {
            journal.note(noted(id), 0).unwrap();
        }
        ending.ask(&noted("a")).unwrap();
        assert_eq!((ending.waiting().unwrap(), journal.sessions(0).len()), (1, 2));
        assert_eq!(ending.take(&journal, 0).unwrap(), ["a"]);
        assert_eq!(ending.waiting().unwrap(), 0);
        drop(journal);
        let again = Journal::open(&path, 0).unwrap();
        let left: Vec<String> = again.sessions(0).into_iter().map(|session| session.id).collect();
        assert_eq!(left, ["b"]);
        assert!(again.is_spent(&ended("a")) && !again.is_spent(&ended("b")));
        drop(again);
        assert!(Journal::open(&path, 100 + LEEWAY_SECS - 1).unwrap().is_spent(&ended("a")));
    }

    #[test]
    fn session_of_an_account_that_has_its_share_ends_all_the_same_and_so_do_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spent");
        let journal = Journal::open(&path, 0).unwrap();
        let ending = Ending::beside(&path);
        ending.prepare().unwrap();
        std::fs::create_dir(folder.path().join("spent.ending").join("stray")).unwrap();
        for id in ["a", "b"] {
            journal.note(noted(id), 0).unwrap();
            ending.ask(&noted(id)).unwrap();
        }
        let mut taken = ending.take(&journal, 0).unwrap();
        taken.sort();
        assert_eq!(taken, ["a", "b"], "a folder that cannot be removed stops nobody");
        assert!(journal.is_spent(&ended("a")) && journal.is_spent(&ended("b")));
        assert!(matches!(ending.take(&journal, 0), Err(EndingError::Folder(_))), "and is told when nothing else is");
    }

    #[test]
    fn names_that_mean_nothing_are_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spent");
        let ending = Ending::beside(&path);
        ending.prepare().unwrap();
        for name in ["x", "a.b", ".5", "a b.5", &format!("{}.5", "a".repeat(65))] {
            File::create(folder.path().join("spent.ending").join(name)).unwrap();
        }
        assert_eq!(ending.take(&Journal::in_memory(), 0).unwrap(), [""; 0]);
        assert_eq!(ending.waiting().unwrap(), 0);
        assert!(ending.ask(&noted("../a")).is_err());
    }
}
