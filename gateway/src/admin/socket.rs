//! The admin socket as tokio knows sockets.

use std::io;
use std::path::Path;

use adit::net::private_socket::{SocketFile, listen};
use tokio::net::UnixListener;

/// A listening socket that only its owner can open. Its file goes away with it.
#[derive(Debug)]
pub(super) struct PrivateSocket {
    pub(super) listener: UnixListener,
    _file: SocketFile,
}

impl PrivateSocket {
    /// Listens at `path`. Call it within a runtime.
    ///
    /// # Errors
    ///
    /// As [`listen`].
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        let (listener, file) = listen(path, BACKLOG)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, _file: file })
    }
}

/// Clients that wait to be taken in.
const BACKLOG: i32 = 64;
