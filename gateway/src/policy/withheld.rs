//! Headers that only the gateway says: what the upstream is told of a person must not come from the visitor.

use http::{HeaderMap, HeaderName};

/// The names of headers that no visitor may bring, neither before a body nor behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withheld(Vec<HeaderName>);

impl Withheld {
    /// These names.
    pub fn of(names: impl Iterator<Item = HeaderName>) -> Self {
        Self(names.collect())
    }

    /// Takes in the names of another.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// Takes these headers out. Many servers cannot tell `_` from `-` in a name, some no sign from another.
    pub fn strip(&self, headers: &mut HeaderMap) {
        if self.0.is_empty() {
            return;
        }
        let is_withheld = |name: &HeaderName| self.0.iter().any(|withheld| folded(withheld).eq(folded(name)));
        let forged: Vec<HeaderName> = headers.keys().filter(|name| is_withheld(name)).cloned().collect();
        for name in forged {
            headers.remove(name);
        }
    }
}

/// The name as a server sees it that makes a variable out of it. Names are in lower case already.
fn folded(name: &HeaderName) -> impl Iterator<Item = u8> {
    name.as_str().bytes().map(|sign| if sign.is_ascii_alphanumeric() { sign } else { b'-' })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn left(sent: &[&'static str], withheld: &[&'static str]) -> Vec<String> {
        let named = |name: &&'static str| HeaderName::from_bytes(name.as_bytes()).unwrap();
        let mut headers: HeaderMap = sent.iter().map(|name| (named(name), HeaderValue::from_static("v"))).collect();
        Withheld::of(withheld.iter().map(named)).strip(&mut headers);
        headers.keys().map(|name| name.as_str().to_owned()).collect()
    }

    #[test]
    fn names_that_a_server_takes_for_the_same_are_withheld() {
        for spelling in ["X-Auth", "X_Auth", "x_auth", "X-AUTH", "X.Auth", "x~auth", "x!auth", "x^auth", "x|auth"] {
            assert_eq!(left(&[spelling], &["x-auth"]), [""; 0], "{spelling}");
            assert_eq!(left(&[spelling], &["x_auth"]), [""; 0], "{spelling}");
        }
    }

    #[test]
    fn other_names_stay() {
        for spelling in ["xauth", "x-auth-", "x--auth", "x-aut", "x-authy", "y-auth"] {
            assert_eq!(left(&[spelling], &["x-auth"]), [spelling], "{spelling}");
        }
        assert_eq!(left(&["x-auth"], &[]), ["x-auth"]);
    }
}
