//! The sessions that have begun at this gateway, so that whoever runs it can list them: one line of JSON each, in a file.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::spent::replace;
use super::store::{NOTED_MAX, Noted, Unlisted, has_share};

/// The sessions that have begun, oldest first.
#[derive(Default)]
pub(super) struct Notes {
    sessions: VecDeque<Noted>,
    /// What had to make room while it went on, by account.
    unlisted: BTreeMap<String, Unlisted>,
    path: Option<PathBuf>,
    /// Lines of the file; 0 when it has to be written anew.
    lines: usize,
}

impl Notes {
    /// Reads the notes beside a journal, and goes on with them.
    pub(super) fn open(journal: &Path, now: i64) -> io::Result<Self> {
        let notes = Self::look(journal, now)?;
        Ok(Self { path: Some(beside(journal, ".sessions")), ..notes })
    }

    /// Reads the notes beside a journal.
    pub(super) fn look(journal: &Path, now: i64) -> io::Result<Self> {
        let mut text = Vec::new();
        match File::open(beside(journal, ".sessions")) {
            Ok(file) => file.take(FILE_BYTES_MAX).read_to_end(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let mut notes = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(Line::Noted(session)) if session.ends > now => notes.sessions.push_back(session),
                // The last one of an account counts.
                Ok(Line::Unlisted(unlisted)) => {
                    notes.unlisted.insert(unlisted.account.clone(), unlisted);
                }
                Ok(Line::Noted(_)) | Err(_) => {}
            }
        }
        notes.unlisted.retain(|_, unlisted| unlisted.until > now);
        while notes.sessions.len() > NOTED_MAX {
            notes.leave_out(0);
        }
        Ok(notes)
    }

    /// Those that have not expired.
    pub(super) fn living(&self, now: i64) -> impl Iterator<Item = &Noted> {
        self.sessions.iter().filter(move |session| session.ends > now)
    }

    /// How many there were too many of, and may go on.
    pub(super) fn unlisted(&self, now: i64) -> impl Iterator<Item = &Unlisted> {
        self.unlisted.values().filter(move |unlisted| unlisted.until > now)
    }

    /// Adds one. Nothing is added when it cannot be written.
    pub(super) fn add(&mut self, mut session: Noted, now: i64) -> io::Result<()> {
        for text in [&mut session.host, &mut session.subject, &mut session.email] {
            *text = text.chars().filter(|character| !character.is_control()).take(TEXT_CHARS_MAX).collect();
        }
        let left_out = self.make_room(&session.account, now);
        if let Some(path) = &self.path {
            // Anew also when there is none yet, or when the last line may be a half one.
            if self.lines == 0 || self.lines >= LINES_MAX {
                let unlisted = self.unlisted.values().map(line);
                let lines = unlisted.chain(self.sessions.iter().chain([&session]).map(line));
                let lines: Vec<String> = lines.collect::<io::Result<_>>()?;
                replace(path, lines.concat().as_bytes())?;
                self.lines = lines.len();
            } else {
                let before = std::mem::take(&mut self.lines);
                let mut file = OpenOptions::new().append(true).open(path)?;
                let unlisted = left_out.and_then(|account| self.unlisted.get(&account)).map(line).transpose()?;
                let text = format!("{}{}", unlisted.as_deref().unwrap_or_default(), line(&session)?);
                file.write_all(text.as_bytes())?;
                self.lines = before + 1 + usize::from(unlisted.is_some());
            }
        }
        self.sessions.push_back(session);
        Ok(())
    }

    /// Gives the account if one of its notes had to go that goes on.
    fn make_room(&mut self, account: &str, now: i64) -> Option<String> {
        let own = |sessions: &VecDeque<Noted>| sessions.iter().filter(|session| session.account == account).count();
        if has_share(own(&self.sessions), self.sessions.len(), NOTED_MAX) {
            return None;
        }
        self.sessions.retain(|session| session.ends > now);
        self.unlisted.retain(|_, unlisted| unlisted.until > now);
        if has_share(own(&self.sessions), self.sessions.len(), NOTED_MAX) {
            return None;
        }
        let oldest = self.sessions.iter().position(|session| session.account == account)?;
        self.leave_out(oldest)
    }

    /// Takes a session out of the list, and counts it.
    fn leave_out(&mut self, index: usize) -> Option<String> {
        let Noted { account, ends, .. } = self.sessions.remove(index)?;
        let fresh = || Unlisted { account: account.clone(), unlisted: 0, until: ends };
        let unlisted = self.unlisted.entry(account.clone()).or_insert_with(fresh);
        unlisted.unlisted = unlisted.unlisted.saturating_add(1);
        unlisted.until = unlisted.until.max(ends);
        Some(account)
    }
}

/// A line of the file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Noted(Noted),
    Unlisted(Unlisted),
}

fn line(entry: &impl Serialize) -> io::Result<String> {
    let mut line = serde_json::to_string(entry).map_err(io::Error::other)?;
    line.push('\n');
    Ok(line)
}

/// A file beside another one, with more behind its name.
pub(super) fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name: OsString = path.file_name().unwrap_or_default().to_owned();
    name.push(more);
    path.with_file_name(name)
}

/// The file is written anew when it has this many lines.
const LINES_MAX: usize = 2 * NOTED_MAX;
/// Of each of the texts of a session: enough to know whom it is about.
const TEXT_CHARS_MAX: usize = 100;
/// No line is longer than 2 KiB.
const FILE_BYTES_MAX: u64 = 2048 * LINES_MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(id: &str, account: &str, ends: i64) -> Noted {
        Noted {
            id: id.into(),
            account: account.into(),
            host: "app.example.com".into(),
            subject: "ann".into(),
            email: "ann@example.com".into(),
            begun: 0,
            ends,
            person: String::new(),
            provider_session: String::new(),
        }
    }

    fn ids(notes: &Notes, now: i64) -> Vec<&str> {
        notes.living(now).map(|session| session.id.as_str()).collect()
    }

    #[test]
    fn sessions_are_known_over_a_restart_until_they_expire() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spent");
        let mut notes = Notes::open(&path, 0).unwrap();
        notes.add(noted("a", "main", 100), 0).unwrap();
        notes.add(noted("b", "main", 200), 0).unwrap();
        assert_eq!(ids(&notes, 100), ["b"]);
        let file = folder.path().join("spent.sessions");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{text}{{\"id\":\"cut")).unwrap();
        let mut notes = Notes::open(&path, 0).unwrap();
        assert_eq!(ids(&notes, 0), ["a", "b"]);
        notes.add(noted("c", "main", 200), 0).unwrap();
        notes.add(noted("d", "main", 200), 0).unwrap();
        assert_eq!(ids(&Notes::look(&path, 0).unwrap(), 150), ["b", "c", "d"]);
    }

    #[test]
    fn account_that_logs_in_very_often_loses_its_own_oldest_notes() {
        let mut notes = Notes::default();
        notes.add(noted("theirs", "other", 100), 0).unwrap();
        for index in 0..NOTED_MAX / 2 + 10 {
            notes.sessions.push_back(noted(&index.to_string(), "main", 100));
        }
        let full = notes.sessions.len();
        notes.add(noted("more", "main", 100), 0).unwrap();
        assert_eq!(notes.sessions.len(), full);
        assert_eq!((ids(&notes, 0)[0], ids(&notes, 0)[1]), ("theirs", "1"));
        let unlisted = |account: &str| Unlisted { account: account.into(), unlisted: 1, until: 100 };
        assert_eq!(notes.unlisted(0).cloned().collect::<Vec<_>>(), [unlisted("main")], "and it is known that it has");
        assert_eq!(notes.unlisted(100).count(), 0);
        // What has expired goes first.
        notes.add(noted("last", "main", 300), 200).unwrap();
        assert_eq!(ids(&notes, 0), ["last"]);
    }

    #[test]
    fn what_is_not_listed_is_counted_also_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spent");
        let mut notes = Notes::open(&path, 0).unwrap();
        notes.add(noted("first", "main", 300), 0).unwrap();
        for index in 0..NOTED_MAX / 2 {
            notes.sessions.push_back(noted(&index.to_string(), "main", 100));
        }
        notes.add(noted("more", "main", 100), 0).unwrap();
        notes.add(noted("last", "main", 100), 0).unwrap();
        for at in [0, 100, 299] {
            let looked = Notes::look(&path, at).unwrap();
            let expected = Unlisted { account: "main".into(), unlisted: 2, until: 300 };
            assert_eq!(looked.unlisted(at).cloned().collect::<Vec<_>>(), [expected]);
        }
        assert_eq!(Notes::look(&path, 300).unwrap().unlisted(300).count(), 0);
    }

    #[test]
    fn long_words_of_a_provider_are_cut() {
        let mut notes = Notes::default();
        notes.add(Noted { subject: "\u{7}ä".repeat(1000), ..noted("a", "main", 100) }, 0).unwrap();
        assert_eq!(notes.sessions[0].subject, "ä".repeat(TEXT_CHARS_MAX));
    }
}
