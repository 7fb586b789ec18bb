//! Reading small text files: bounded, and with a look at who else can read them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// A text file in memory.
#[derive(Debug)]
pub(crate) struct TextFile {
    text: String,
    read_by_others: bool,
}

impl TextFile {
    /// Reads at most `bytes_max` bytes of UTF-8. A byte order mark at the start is dropped.
    pub(crate) fn read(path: &Path, bytes_max: usize) -> Result<Self, FileError> {
        let file = File::open(path).map_err(FileError::Read)?;
        let metadata = file.metadata().map_err(FileError::Read)?;
        if metadata.is_dir() {
            return Err(FileError::Directory);
        }
        let mut bytes = Vec::new();
        let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
        file.take(limit).read_to_end(&mut bytes).map_err(FileError::Read)?;
        if bytes.len() > bytes_max {
            return Err(FileError::TooLong(bytes_max));
        }
        let Ok(text) = String::from_utf8(bytes) else {
            return Err(FileError::NotUtf8);
        };
        let text = match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        };
        Ok(Self { text, read_by_others: read_by_others(&metadata) })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the file's mode lets its group or everybody read it.
    pub(crate) fn is_read_by_others(&self) -> bool {
        self.read_by_others
    }
}

/// Why a file's text could not be had.
#[derive(Debug)]
pub(crate) enum FileError {
    Read(io::Error),
    Directory,
    TooLong(usize),
    NotUtf8,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "cannot be read: {error}"),
            Self::Directory => f.write_str("is a directory, a file is needed"),
            Self::TooLong(bytes_max) => write!(f, "is longer than {bytes_max} bytes"),
            Self::NotUtf8 => f.write_str("is not UTF-8 text"),
        }
    }
}

#[cfg(unix)]
fn read_by_others(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.is_file() && metadata.permissions().mode() & READ_BY_GROUP_OR_OTHERS != 0
}

#[cfg(not(unix))]
fn read_by_others(_metadata: &std::fs::Metadata) -> bool {
    false
}

#[cfg(unix)]
const READ_BY_GROUP_OR_OTHERS: u32 = 0o044;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_read_up_to_its_limit_and_not_beyond() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(TextFile::read(&path, 5).unwrap().text(), "12345");
        assert!(matches!(TextFile::read(&path, 4), Err(FileError::TooLong(4))));
    }

    #[test]
    fn directory_missing_file_and_binary_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(TextFile::read(dir.path(), 5), Err(FileError::Directory)));
        assert!(matches!(TextFile::read(&dir.path().join("gone"), 5), Err(FileError::Read(_))));
        let path = dir.path().join("f");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(TextFile::read(&path, 5), Err(FileError::NotUtf8)));
    }

    #[test]
    fn byte_order_mark_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "\u{feff}{}").unwrap();
        assert_eq!(TextFile::read(&path, 5).unwrap().text(), "{}");
    }
}
