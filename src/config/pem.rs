//! Certificates and keys in a configuration: the path of a PEM file, or the PEM text itself, as ngrok's file has both.

use std::fmt;
use std::path::PathBuf;

use crate::message::Secret;

/// Where a PEM text comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum PemSource {
    /// A file that is read whenever the configuration is.
    File(PathBuf),
    /// The text itself. It may be a private key, so it is never shown.
    Inline(Secret),
}

impl PemSource {
    /// A text with a PEM section is the PEM itself, anything else a path.
    ///
    /// # Errors
    /// An empty text, and one that has several lines and is no PEM.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains(PEM_BEGIN) {
            return Ok(Self::Inline(Secret::new(text)));
        }
        if text.is_empty() || text.contains('\n') {
            return Err("must be the path of a PEM file, or the PEM text itself (-----BEGIN …)");
        }
        Ok(Self::File(PathBuf::from(text)))
    }
}

impl fmt::Display for PemSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Inline(_) => f.write_str("the PEM text in the configuration"),
        }
    }
}

impl fmt::Debug for PemSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What every section of a PEM text begins with (RFC 7468, section 2).
const PEM_BEGIN: &str = "-----BEGIN ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_a_section_is_pem_and_everything_else_a_path() {
        assert_eq!(PemSource::parse("/etc/adit.pem"), Ok(PemSource::File("/etc/adit.pem".into())));
        let pem = "# a key\n-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n";
        assert_eq!(PemSource::parse(pem), Ok(PemSource::Inline(Secret::new(pem))));
        assert!(PemSource::parse("").is_err() && PemSource::parse("a\nb").is_err());
    }

    #[test]
    fn pem_text_is_never_shown() {
        let source = PemSource::parse("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n").unwrap();
        let shown = format!("{source} {source:?} {source:#?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
