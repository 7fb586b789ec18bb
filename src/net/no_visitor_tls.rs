//! Stands for [`VisitorTls`] in a build without certificates of its own: there is none, and the compiler leaves out what
//! would be done with one, the server's half of TLS among it.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;

/// Cannot be.
#[derive(Debug)]
pub(crate) enum VisitorTls {}

impl VisitorTls {
    pub(crate) fn new(_: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Err(rustls::Error::General("this adit is built without certificates of its own".to_owned()))
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        match *self {}
    }

    pub(crate) fn take(&mut self, _: &[u8]) -> Result<usize, rustls::Error> {
        match *self {}
    }

    pub(crate) fn plaintext(&mut self) -> &[u8] {
        match *self {}
    }

    pub(crate) fn consume(&mut self, _: usize) {
        match *self {}
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        match *self {}
    }

    pub(crate) fn held(&self) -> usize {
        match *self {}
    }

    pub(crate) fn encrypt(&mut self, _: &[u8]) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn end(&mut self) {
        match *self {}
    }

    pub(crate) fn is_over(&self) -> bool {
        match *self {}
    }

    pub(crate) fn wants_fetch(&self) -> bool {
        match *self {}
    }

    pub(crate) fn fetch(&mut self, _: &mut [u8]) -> usize {
        match *self {}
    }
}
