//! A Unix socket that only its owner, and root, can open, from the moment that it exists.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// The file of a listening socket. It goes away with this, unless another process has put its own there since.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Which file is ours: its device and its number there.
    file: (u64, u64),
}

/// Listens at `path` without blocking. A socket that a crash left behind is taken away. `backlog` clients may wait in the
/// kernel.
///
/// # Errors
///
/// [`io::ErrorKind::AddrInUse`] when another process answers there; others from the operating system.
pub fn listen(path: &Path, backlog: i32) -> io::Result<(UnixListener, SocketFile)> {
    let socket = match bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => match remove_stale(path) {
            // The other one has just taken it away itself.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => bind(path)?,
        },
        other => other?,
    };
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    let metadata = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), file: (metadata.dev(), metadata.ino()) };
    Ok((OwnedFd::from(socket).into(), file))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A socket that is bound and does not listen yet. Linux gives the file the mode that the socket has when it is bound,
/// less the umask.
fn bind(path: &Path) -> io::Result<Socket> {
    let file = File::from(OwnedFd::from(Socket::new(Domain::UNIX, Type::STREAM, None)?));
    // Systems that know no mode of sockets go by the umask, and are put right below.
    let _ = file.set_permissions(Permissions::from_mode(MODE));
    let socket = Socket::from(OwnedFd::from(file));
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before it listens.
    if fs::symlink_metadata(path)?.permissions().mode() & 0o777 & !MODE != 0 {
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
    }
    Ok(socket)
}

/// Removes the file that a crash left behind: a socket at which nobody answers.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::other("there is a file of another kind"));
    }
    let client = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A process that takes nobody in any more, with a full queue, must not keep this one waiting.
    client.set_nonblocking(true)?;
    match client.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        Ok(()) | Err(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers there")),
    }
}

/// For its owner alone.
const MODE: u32 = 0o600;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    const BACKLOG: i32 = 8;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn file_is_private_before_anybody_can_connect_and_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let bound = bind(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        drop(bound);
        // What a crash leaves behind looks like this.
        let (_socket, file) = listen(&path, BACKLOG).unwrap();
        assert_eq!(mode(&path), 0o600);
        UnixStream::connect(&path).unwrap();
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn process_that_takes_nobody_in_keeps_its_socket_and_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let wedged = bind(&path).unwrap();
        wedged.listen(0).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        assert_eq!(remove_stale(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists());
    }

    #[test]
    fn socket_of_a_living_process_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let (_first, first_file) = listen(&path, BACKLOG).unwrap();
        assert_eq!(listen(&path, BACKLOG).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
        // One that has lost its place leaves the newcomer's alone.
        fs::remove_file(&path).unwrap();
        let (_second, second_file) = listen(&path, BACKLOG).unwrap();
        drop(first_file);
        UnixStream::connect(&path).unwrap();
        drop(second_file);
        fs::write(&path, "notes").unwrap();
        assert!(listen(&path, BACKLOG).unwrap_err().to_string().contains("another kind"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "notes");
    }
}
