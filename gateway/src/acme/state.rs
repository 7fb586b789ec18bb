//! What outlives the process: the account's key and the certificates with theirs, below one directory.
//!
//! Each authority has a directory of its own in it, so that certificates of one for trials are never taken for those of
//! another. Files are replaced as a whole: what is cut by a power failure is the old one or the new one.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::issued::{Issued, IssuedError};

/// The directory of one authority.
#[derive(Clone, Debug)]
pub(crate) struct State {
    folder: PathBuf,
}

/// Why a file cannot be used.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// It cannot be read.
    Read(io::Error),
    /// It is longer than any file of ours, or is no text.
    Text,
    /// It is no certificate for its name.
    Certificate(IssuedError),
}

/// Why there is no directory to keep things in.
#[derive(Debug)]
pub enum StateError {
    /// It is not there and cannot be made.
    Create(PathBuf, io::Error),
    /// It cannot be looked at.
    Read(PathBuf, io::Error),
    /// Others may write to it; the number is its mode.
    Exposed(PathBuf, u32),
}

impl State {
    /// Opens the directory of an authority below `root`; makes both with mode 0700 where they are not there.
    ///
    /// # Errors
    ///
    /// See [`StateError`].
    pub(crate) fn open(root: &Path, directory_url: &str) -> Result<Self, StateError> {
        let folder = root.join(folder_name(directory_url));
        for folder in [root, &folder] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|error| StateError::Create(folder.to_owned(), error))?;
            let metadata = fs::metadata(folder).map_err(|error| StateError::Read(folder.to_owned(), error))?;
            let mode = metadata.permissions().mode() & 0o7777;
            if mode & MODE_FORBIDDEN != 0 {
                return Err(StateError::Exposed(folder.to_owned(), mode));
            }
        }
        let state = Self { folder };
        state.clear_unfinished();
        Ok(state)
    }

    /// The directory.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The certificate of a name; `None`: there is none.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    pub(crate) fn certificate(&self, name: &str) -> Result<Option<Issued>, LoadError> {
        let Some(pem) = read(&self.certificate_file(name))? else { return Ok(None) };
        Issued::parse(name, pem).map(Some).map_err(LoadError::Certificate)
    }

    /// Keeps the certificate of a name in place of the one before.
    ///
    /// # Errors
    ///
    /// What the system says; the one before is still there then.
    pub(crate) fn keep_certificate(&self, name: &str, issued: &Issued) -> io::Result<()> {
        self.replace(&self.certificate_file(name), issued.pem())
    }

    /// What [`State::keep_account`] was given; `None`: nothing yet.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    pub(crate) fn account(&self) -> Result<Option<String>, LoadError> {
        read(&self.folder.join(ACCOUNT_FILE))
    }

    /// Keeps what identifies the gateway to the authority, its key included.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(crate) fn keep_account(&self, account: &str) -> io::Result<()> {
        self.replace(&self.folder.join(ACCOUNT_FILE), account)
    }

    /// Forgets the account.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(crate) fn forget_account(&self) -> io::Result<()> {
        fs::remove_file(self.folder.join(ACCOUNT_FILE))
    }

    /// The file of a name's certificate. Names of the configuration have nothing in them that a path would mind.
    pub(crate) fn certificate_file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pem"))
    }

    fn replace(&self, file: &Path, text: &str) -> io::Result<()> {
        // A temporary file is made with mode 0600.
        let mut new = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.folder)?;
        new.write_all(text.as_bytes())?;
        new.as_file().sync_all()?;
        new.persist(file)?;
        // Without this the name may still be the old file's after a power cut.
        File::open(&self.folder)?.sync_all()
    }

    /// Removes what a process that was killed has left half written.
    fn clear_unfinished(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let unfinished = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(UNFINISHED));
        for entry in unfinished {
            // It does no harm where it is.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn read(file: &Path) -> Result<Option<String>, LoadError> {
    let file = match File::open(file) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LoadError::Read(error)),
    };
    let mut text = Vec::new();
    file.take(FILE_LEN_MAX + 1).read_to_end(&mut text).map_err(LoadError::Read)?;
    if text.len() as u64 > FILE_LEN_MAX {
        return Err(LoadError::Text);
    }
    String::from_utf8(text).map(Some).map_err(|_| LoadError::Text)
}

/// The address of an authority as a name of one directory, short enough for any file system.
fn folder_name(directory_url: &str) -> String {
    let address = directory_url.trim_start_matches("https://");
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' };
    address.chars().map(plain).take(FOLDER_NAME_MAX).collect()
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "it cannot be read: {error}"),
            Self::Text => write!(f, "it is no text of at most {FILE_LEN_MAX} bytes"),
            Self::Certificate(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(folder, error) => {
                write!(
                    f,
                    "acme.state: {} cannot be made: {error}; name a directory that the gateway may write to",
                    folder.display()
                )
            }
            Self::Read(folder, error) => write!(f, "acme.state: {} cannot be read: {error}", folder.display()),
            Self::Exposed(folder, mode) => write!(
                f,
                "acme.state: {} has mode {mode:04o}, which lets others put certificates there; chmod it to 0700",
                folder.display()
            ),
        }
    }
}

impl std::error::Error for StateError {}

const ACCOUNT_FILE: &str = "account.json";
/// What files are called until they are whole.
const UNFINISHED: &str = ".unfinished-";
/// Nobody but the owner may write there.
const MODE_FORBIDDEN: u32 = 0o022;
/// A chain of ten certificates with its key has some 20 KiB.
const FILE_LEN_MAX: u64 = 1 << 20;
/// File systems take 255 bytes.
const FOLDER_NAME_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::super::issued::tests::issued;
    use super::super::renewal::Life;
    use super::*;

    const LIFE: Life = Life { begins: 1_700_000_000, ends: 1_700_086_400 };
    const URL: &str = "https://ca.example.com/directory?x";

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn certificates_and_account_come_back_and_are_their_owners_alone() {
        let root = tempfile::tempdir().unwrap();
        let state = State::open(&root.path().join("a/acme"), URL).unwrap();
        assert!(state.certificate("a.example.com").unwrap().is_none() && state.account().unwrap().is_none());
        for ends in [LIFE.ends, LIFE.ends + 60] {
            let life = Life { ends, ..LIFE };
            state.keep_certificate("a.example.com", &issued("a.example.com", life)).unwrap();
            state.keep_account("{}").unwrap();
            let again = State::open(&root.path().join("a/acme"), URL).unwrap();
            assert_eq!(again.certificate("a.example.com").unwrap().unwrap().life, life);
            assert_eq!(again.account().unwrap().as_deref(), Some("{}"));
        }
        assert_eq!(state.folder(), root.path().join("a/acme/ca.example.com_directory_x"));
        assert_eq!((mode(&root.path().join("a/acme")), mode(state.folder())), (0o700, 0o700));
        assert_eq!(mode(&state.certificate_file("a.example.com")), 0o600);
        assert_eq!(mode(&state.folder().join(ACCOUNT_FILE)), 0o600);
        assert_eq!(fs::read_dir(state.folder()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn authorities_do_not_share() {
        let root = tempfile::tempdir().unwrap();
        let first = State::open(root.path(), URL).unwrap();
        first.keep_certificate("a.example.com", &issued("a.example.com", LIFE)).unwrap();
        let other = State::open(root.path(), "https://other.example.com/directory").unwrap();
        assert!(other.certificate("a.example.com").unwrap().is_none());
    }

    #[test]
    fn half_a_file_is_an_error_and_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let state = State::open(root.path(), URL).unwrap();
        let whole = issued("a.example.com", LIFE);
        let file = state.certificate_file("a.example.com");
        for length in [0, 1, 100, 300, whole.pem().len() / 2, whole.pem().len() - 40] {
            fs::write(&file, &whole.pem()[..length]).unwrap();
            assert!(matches!(state.certificate("a.example.com"), Err(LoadError::Certificate(_))), "{length}");
        }
        fs::write(&file, [0xff; 10]).unwrap();
        assert!(matches!(state.certificate("a.example.com"), Err(LoadError::Text)));
        state.keep_certificate("a.example.com", &whole).unwrap();
        assert!(state.certificate("a.example.com").unwrap().is_some());
    }

    #[test]
    fn file_holds_at_its_bound_and_not_beyond() {
        let root = tempfile::tempdir().unwrap();
        let state = State::open(root.path(), URL).unwrap();
        let longest = "x".repeat(usize::try_from(FILE_LEN_MAX).unwrap());
        state.keep_account(&longest).unwrap();
        assert_eq!(state.account().unwrap().unwrap().len(), longest.len());
        state.keep_account(&format!("{longest}x")).unwrap();
        assert!(matches!(state.account(), Err(LoadError::Text)));
    }

    #[test]
    fn what_was_left_half_written_goes_at_the_next_start() {
        let root = tempfile::tempdir().unwrap();
        let state = State::open(root.path(), URL).unwrap();
        fs::write(state.folder().join(".unfinished-x1"), "half").unwrap();
        State::open(root.path(), URL).unwrap();
        assert_eq!(fs::read_dir(state.folder()).unwrap().count(), 0);
    }

    #[test]
    fn directory_that_others_may_write_to_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o777)).unwrap();
        let error = State::open(root.path(), URL).unwrap_err();
        assert!(error.to_string().contains("mode 0777") && error.to_string().contains("chmod it to 0700"), "{error}");
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(State::open(&file, URL), Err(StateError::Create(..))));
    }
}
