//! The key that authenticates what agents bring back after a reconnect: read from its file, or made and kept there.
//!
//! The file holds 64 hexadecimal digits and a line feed, so that it can be copied to the other gateways of a fleet with
//! any tool.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};

/// 32 secret bytes. Gateways with the same key accept each other's identities.
#[derive(Clone)]
pub struct IdentityKey([u8; KEY_LEN]);

/// Why there is no key.
#[derive(Debug)]
pub enum IdentityKeyError {
    /// The file cannot be read.
    Read(io::Error),
    /// There is no file and none could be made.
    Create(io::Error),
    /// The file may be read by everybody or written by others than its owner; the number is its mode.
    Exposed(u32),
    /// The file does not hold a key.
    Malformed,
    /// The operating system gave no random bytes.
    NoRandomness,
}

impl IdentityKey {
    /// Makes a key that lives only as long as the process.
    ///
    /// # Errors
    ///
    /// [`IdentityKeyError::NoRandomness`].
    pub fn generate() -> Result<Self, IdentityKeyError> {
        let mut key = [0; KEY_LEN];
        SystemRandom::new().fill(&mut key).map_err(|_| IdentityKeyError::NoRandomness)?;
        Ok(Self(key))
    }

    /// Reads the key in `path`; when there is no such file, makes a key and keeps it there, readable for its owner only.
    ///
    /// Of several gateways that start at once with the same empty place, one makes the key and all get it: the file
    /// appears whole, and never replaces another.
    ///
    /// # Errors
    ///
    /// See [`IdentityKeyError`]. A file that is there but unusable is never overwritten.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityKeyError> {
        if let Some(key) = Self::load(path)? {
            return Ok(key);
        }
        let key = Self::generate()?;
        match key.keep(path) {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::load(path)?.ok_or(IdentityKeyError::Create(error))
            }
            Err(error) => Err(IdentityKeyError::Create(error)),
        }
    }

    /// Reads the key in `path`. `None`: there is no such file.
    ///
    /// # Errors
    ///
    /// See [`IdentityKeyError`].
    pub fn load(path: &Path) -> Result<Option<Self>, IdentityKeyError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IdentityKeyError::Read(error)),
        };
        let mode = file.metadata().map_err(IdentityKeyError::Read)?.permissions().mode() & 0o7777;
        if mode & MODE_FORBIDDEN != 0 {
            return Err(IdentityKeyError::Exposed(mode));
        }
        let mut text = String::new();
        file.take(FILE_LEN_MAX).read_to_string(&mut text).map_err(IdentityKeyError::Read)?;
        parse(text.trim_end()).map(|key| Some(Self(key))).ok_or(IdentityKeyError::Malformed)
    }

    /// The bytes, for the code that signs with them.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    fn keep(&self, path: &Path) -> io::Result<()> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        // A temporary file is made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(file, "{digits}")?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path)?;
        // Without this the name may be gone after a power cut, and with it every identity that was handed out since.
        fs::File::open(directory)?.sync_all()
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityKey([secret])")
    }
}

impl fmt::Display for IdentityKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "the key cannot be read: {error}"),
            Self::Create(error) => write!(
                f,
                "there is no key and none can be kept there: {error}; name a file in a directory that the gateway may write to"
            ),
            Self::Exposed(mode) => write!(
                f,
                "the key is exposed: mode {mode:04o} lets others read or change it; chmod it to 0600, or to 0640 for a group"
            ),
            Self::Malformed => write!(
                f,
                "the file does not hold a key: it must be {} hexadecimal digits; without the file a new key is made, and agents then come back as new ones",
                2 * KEY_LEN
            ),
            Self::NoRandomness => f.write_str("the operating system gave no random bytes; try again"),
        }
    }
}

impl std::error::Error for IdentityKeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(error) | Self::Create(error) => Some(error),
            Self::Exposed(_) | Self::Malformed | Self::NoRandomness => None,
        }
    }
}

fn parse(text: &str) -> Option<[u8; KEY_LEN]> {
    if text.len() != 2 * KEY_LEN || !text.is_ascii() {
        return None;
    }
    let mut key = [0; KEY_LEN];
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        for digit in pair {
            let value = u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
            *byte = *byte << 4 | value;
        }
    }
    Some(key)
}

/// Length of the key in bytes: the output of SHA-256, more adds nothing to HMAC.
pub const KEY_LEN: usize = 32;
/// Others may do nothing with the file, and its group may read it at most (secrets mounted by Kubernetes are 0440).
const MODE_FORBIDDEN: u32 = 0o027;
/// Most that is read of the file: the digits and some white space. A longer file is no key.
const FILE_LEN_MAX: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_made_once_and_read_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.key");
        assert!(IdentityKey::load(&path).unwrap().is_none());

        let made = IdentityKey::load_or_create(&path).unwrap();
        let read = IdentityKey::load_or_create(&path).unwrap();

        assert_eq!(made.expose(), read.expose());
        assert_ne!(made.expose(), &[0; KEY_LEN]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn gateways_that_start_at_once_get_the_same_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.key");
        let start = std::sync::Barrier::new(8);
        let keys: Vec<[u8; KEY_LEN]> = std::thread::scope(|scope| {
            let starters: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        *IdentityKey::load_or_create(&path).unwrap().expose()
                    })
                })
                .collect();
            starters.into_iter().map(|starter| starter.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| key == &keys[0]));
    }

    #[test]
    fn exposed_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.key");
        IdentityKey::load_or_create(&path).unwrap();
        for (mode, refused) in
            [(0o600, false), (0o400, false), (0o640, false), (0o644, true), (0o620, true), (0o601, true)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let result = IdentityKey::load_or_create(&path);
            assert_eq!(matches!(result, Err(IdentityKeyError::Exposed(found)) if found == mode), refused, "{mode:o}");
            assert_eq!(result.is_err(), refused, "{mode:o}");
        }
    }

    #[test]
    fn unusable_file_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.key");
        let digits = "0f".repeat(KEY_LEN);
        let long = format!("{digits}{}", " ".repeat(300));
        for (text, fine) in [
            (digits.as_str(), true),
            (&format!("{digits}\n"), true),
            ("", false),
            (&digits[1..], false),
            (&format!("{digits}0"), false),
            (&digits.replacen('f', "g", 1), false),
            (&format!("é{}", &digits[2..]), false),
            (long.as_str(), true),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert_eq!(IdentityKey::load_or_create(&path).is_ok(), fine, "{text:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn missing_directory_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let error = IdentityKey::load_or_create(&directory.path().join("no/identity.key")).unwrap_err();
        assert!(matches!(error, IdentityKeyError::Create(_)));
        assert!(error.to_string().contains("a directory that the gateway may write to"), "{error}");
    }

    #[test]
    fn key_is_not_printed() {
        assert_eq!(format!("{:?}", IdentityKey::generate().unwrap()), "IdentityKey([secret])");
    }
}
