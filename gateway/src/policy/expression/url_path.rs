//! Paths of URLs in the form that rules are compared with.

use std::fmt::Write as _;

use http::Uri;

/// A path without dot segments and empty segments, so that no rule is got around by another spelling: `//admin`, `/./admin`
/// and `/x/../admin` are `/admin`. A slash at the end stays. What does not begin with a slash, as the `*` of OPTIONS, is no
/// path and stays as it is.
pub(super) fn normalised(path: &str) -> String {
    let Some(rest) = path.strip_prefix('/') else { return path.to_owned() };
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_in_slash = false;
    for segment in rest.split('/') {
        ends_in_slash = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let end = if ends_in_slash && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

/// The same of a path that stays percent-encoded, for a URL: signs that need no encoding (RFC 3986, 2.3) lose it first.
pub(super) fn normalised_encoded(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut parts = path.split('%');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let Some((byte, rest)) = digits.and_then(|digits| Some((u8::from_str_radix(digits, 16).ok()?, part.get(2..)?)))
        else {
            plain.push('%');
            plain.push_str(part);
            continue;
        };
        match char::from(byte) {
            sign if sign.is_ascii_alphanumeric() || matches!(sign, '-' | '.' | '_' | '~') => plain.push(sign),
            // Writing to a text cannot fail.
            _ => drop(write!(plain, "%{byte:02X}")),
        }
        plain.push_str(rest);
    }
    normalised(&plain)
}

/// Path and query as `req.url` has them. The `*` of OPTIONS asks for the server as a whole, whose URL has no path.
pub(super) fn normalised_target(uri: &Uri) -> String {
    let path = if uri.path() == "*" { String::new() } else { normalised_encoded(uri.path()) };
    uri.query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_path_are_one() {
        for path in
            ["/admin", "//admin", "///admin", "/./admin", "/x/../admin", "/../admin", "/x//../admin", "/x/./../admin"]
        {
            assert_eq!(normalised(path), "/admin", "{path}");
        }
        for (path, expected) in [
            ("/", "/"),
            ("//", "/"),
            ("/..", "/"),
            ("/a/", "/a/"),
            ("/a//", "/a/"),
            ("/a/.", "/a/"),
            ("/a/b/..", "/a/"),
            ("/a/...", "/a/..."),
            ("/.a/..b", "/.a/..b"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(normalised(path), expected, "{path}");
        }
    }

    #[test]
    fn encoded_path_keeps_the_escapes_that_it_needs() {
        for (path, expected) in [
            ("/%2e/admin", "/admin"),
            ("/x/%2E%2e/%61dmin", "/admin"),
            ("/a%20b%2fc", "/a%20b%2Fc"),
            ("/a%252e", "/a%252e"),
            ("/100%/%zz/%4", "/100%/%zz/%4"),
            ("/%c3%a4", "/%C3%A4"),
            ("/%\u{e4}x", "/%\u{e4}x"),
        ] {
            assert_eq!(normalised_encoded(path), expected, "{path}");
        }
    }
}
