//! Writes JSON objects whose members keep the order and the spelling that they are written with.

use serde::Serialize;

/// One object under construction.
pub(super) struct ObjectWriter {
    text: String,
}

impl ObjectWriter {
    pub(super) fn new() -> Self {
        Self { text: "{".to_owned() }
    }

    /// Adds a member: a string, a number, a boolean, an array or a map of them; `None` is written as null.
    pub(super) fn member(mut self, name: &'static str, value: &(impl Serialize + ?Sized)) -> Self {
        // Serialising these types into memory cannot fail; null is what a peer would make of nothing.
        let json = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
        self.raw(name, &json);
        self
    }

    /// Adds a member if there is a value.
    pub(super) fn optional(self, name: &'static str, value: Option<&(impl Serialize + ?Sized)>) -> Self {
        match value {
            Some(value) => self.member(name, value),
            None => self,
        }
    }

    /// Adds an object.
    pub(super) fn object(mut self, name: &'static str, inner: Self) -> Self {
        self.raw(name, &inner.into_text());
        self
    }

    /// Ends the object.
    pub(super) fn finish(self) -> Vec<u8> {
        self.into_text().into_bytes()
    }

    fn into_text(mut self) -> String {
        self.text.push('}');
        self.text
    }

    fn raw(&mut self, name: &str, json: &str) {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        self.text.push('"');
        self.text.push_str(name);
        self.text.push_str("\":");
        self.text.push_str(json);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_keeps_order_and_escapes_values() {
        let json = ObjectWriter::new()
            .member("Z", "a\"\u{0}\n")
            .member("A", &None::<&str>)
            .optional("B", None::<&str>)
            .optional("C", Some(&true))
            .object("O", ObjectWriter::new().member("N", &-1i64))
            .finish();
        assert_eq!(json, br#"{"Z":"a\"\u0000\n","A":null,"C":true,"O":{"N":-1}}"#);
        assert_eq!(ObjectWriter::new().finish(), b"{}");
    }
}
