//! What a session at the provider is called (`SessionIndex`), and what is kept of a name that is long.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

/// What is kept of a name: the name, or its hash if it has more than [`NAME_BYTES_MAX`].
#[must_use]
pub fn kept(name: &str) -> String {
    if name.len() <= NAME_BYTES_MAX {
        return name.to_owned();
    }
    format!("{HASHED}{}", URL_SAFE_NO_PAD.encode(digest(&SHA256, name.as_bytes())))
}

/// What the provider can be told of a name that was kept. `None`: it has to look for all sessions of the person.
#[must_use]
pub fn sent(kept: &str) -> Option<&str> {
    Some(kept).filter(|kept| !kept.is_empty() && !kept.starts_with(HASHED))
}

/// The cookie has room for so much.
pub const NAME_BYTES_MAX: usize = 256;
/// What stands before a hash.
const HASHED: &str = "sha256:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_name_is_told_apart_by_its_hash_which_nobody_is_sent() {
        let name = "s".repeat(NAME_BYTES_MAX);
        assert_eq!((kept(&name), sent(&name)), (name.clone(), Some(&*name)));
        let [long, other] = [kept(&format!("{name}1")), kept(&format!("{name}2"))];
        assert!(long != other && long.len() < 64, "{long}");
        assert_eq!((sent(&long), sent("")), (None, None));
    }
}
