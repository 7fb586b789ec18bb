//! Writing the file of a new credential.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::Builder;

use super::directory::EXTENSION;
use crate::token::CredentialId;

/// Writes the file of a credential into a directory: whole or not at all, with mode 0600, for the user that the directory
/// belongs to, and never over a file that is there. Gives its name.
///
/// # Errors
///
/// There is one already, or it cannot be written.
pub fn write(directory: &Path, id: &CredentialId, text: &str) -> io::Result<PathBuf> {
    let name = directory.join(format!("{id}.{EXTENSION}"));
    // Its name begins with a dot, so that a gateway does not read it while it grows.
    let mut file = Builder::new().prefix(".new-").tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    give_away(file.as_file(), directory)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(&name).map_err(|error| error.error)?;
    // Without this, the name may be gone after a power cut, and the token with it.
    File::open(directory)?.sync_all()?;
    Ok(name)
}

/// The gateway has to be able to read what root writes for it.
fn give_away(file: &File, directory: &Path) -> io::Result<()> {
    let (directory, own) = (fs::metadata(directory)?, file.metadata()?);
    if directory.uid() == own.uid() {
        return Ok(());
    }
    fchown(file, Some(directory.uid()), Some(directory.gid()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn file_is_whole_private_and_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let id: CredentialId = "site1".parse().unwrap();
        let name = write(directory.path(), &id, "first").unwrap();
        assert_eq!(name, directory.path().join("site1.yml"));
        assert_eq!(fs::metadata(&name).unwrap().permissions().mode() & 0o777, 0o600);
        let error = write(directory.path(), &id, "second").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&name).unwrap(), "first");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");
        assert!(write(&directory.path().join("none"), &id, "x").is_err());
    }
}
