//! What arrives at the start of a stream: its type, and one JSON object.

use crate::message::{JsonScan, ScanError};

/// Collects the four bytes of a stream's type, in any chunking.
#[derive(Debug, Default)]
pub(super) struct TypePrefix {
    bytes: [u8; 4],
    len: usize,
}

impl TypePrefix {
    /// Takes bytes; returns how many and, once complete, the number.
    pub(super) fn push(&mut self, bytes: &[u8]) -> (usize, Option<u32>) {
        let used = bytes.len().min(4 - self.len);
        self.bytes[self.len..self.len + used].copy_from_slice(&bytes[..used]);
        self.len += used;
        (used, (self.len == 4).then(|| u32::from_be_bytes(self.bytes)))
    }
}

/// Collects one JSON object. What follows it is taken and dropped: one official agent sends a newline.
#[derive(Default)]
pub(super) struct JsonText {
    scan: JsonScan,
    bytes: Vec<u8>,
    complete: bool,
}

impl std::fmt::Debug for JsonText {
    /// Without the text, which can hold tokens and cookies.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonText").field("len", &self.bytes.len()).field("complete", &self.complete).finish()
    }
}

impl JsonText {
    /// Takes bytes; true when the object became complete with them.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<bool, ScanError> {
        if self.complete {
            return Ok(false);
        }
        let end = self.scan.push(bytes)?;
        self.complete = end.is_some();
        self.bytes.extend_from_slice(&bytes[..end.unwrap_or(bytes.len()).min(bytes.len())]);
        Ok(self.complete)
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The object's text; empties the collector.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // F18: the type may come byte by byte.
    #[test]
    fn type_is_collected_from_any_pieces() {
        let mut prefix = TypePrefix::default();
        for byte in [0, 0, 0] {
            assert_eq!(prefix.push(&[byte]), (1, None));
        }
        assert_eq!(prefix.push(&[3, 9, 9]), (1, Some(3)));
    }

    #[test]
    fn text_ends_with_its_object() {
        let mut text = JsonText::default();
        assert_eq!(text.push(br#"{"a":"#), Ok(false));
        assert_eq!(text.push(b"{}}\n"), Ok(true));
        assert_eq!(text.push(b"rest"), Ok(false));
        assert_eq!(text.take(), br#"{"a":{}}"#);
        assert!(JsonText::default().push(b"x").is_err());
    }
}
