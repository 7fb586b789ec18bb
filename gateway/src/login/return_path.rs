//! Where a visitor goes once it has logged in: a path of the same host and nothing else.

/// Takes a path with its query as a browser would; `/` for whatever could lead to another host.
///
/// Browsers read `//host`, `/\host` and both with tabs or line feeds in between as another host, so that anything of
/// this kind is left out rather than mended.
#[must_use]
pub fn return_path(asked: &str) -> &str {
    let is_plain = asked.bytes().all(|byte| (b'!'..=b'~').contains(&byte) && byte != b'\\');
    let is_path = asked.starts_with('/') && !asked.starts_with("//");
    // A path that is made of dots may become another one: `/.//host` is `//host` for some readers.
    let path = asked.split(['?', '#']).next().unwrap_or_default();
    let is_settled = !path.contains("//") && !path.split('/').any(is_dots);
    if is_plain && is_path && is_settled && asked.len() <= PATH_BYTES_MAX { asked } else { "/" }
}

fn is_dots(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    matches!(plain.as_str(), "." | "..")
}

/// It travels in a cookie with other things.
const PATH_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_same_host_are_kept() {
        for path in ["/", "/a", "/a/b?c=d//e&f=https://g", "/a%20b?next=/..", "/~x/y.z", "/a..b/.c"] {
            assert_eq!(return_path(path), path);
        }
    }

    #[test]
    fn whatever_may_lead_elsewhere_does_not() {
        let hostile = [
            "",
            "a",
            "?a",
            "#a",
            "https://evil.example",
            "HTTPS://evil.example",
            "http:evil.example",
            "//evil.example",
            "///evil.example",
            "////evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "\\/evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "/\r/evil.example",
            "\t//evil.example",
            " //evil.example",
            "/ /evil.example",
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "/.//evil.example",
            "/..//evil.example",
            "/a/..//evil.example",
            "/%2e//evil.example",
            "/%2E%2e//evil.example",
            "/a//evil.example",
            "/./evil",
            "/../evil",
            "/a/%2e%2e/b",
            "/.%2e/b",
            "//evil.example/%2f..",
            "//evil%00.example",
            "/\u{0}/evil.example",
            "/\u{b}/evil.example",
            "/\u{a0}/evil.example",
            "/\u{ff0f}evil.example",
            "/\u{2044}evil.example",
            "\u{2215}\u{2215}evil.example",
            "//user@evil.example",
            "//evil.example:443",
            "//[::1]/",
            "//127.0.0.1/",
            "//2130706433/",
            "/\\/evil.example",
            "/\\\\evil.example",
            "/a\\..\\..\\evil",
            "mailto:a@b",
            "ftp://evil.example",
            "blob:x",
            "filesystem:x",
            "//evil.example?a",
            "//evil.example#a",
            "https:/evil.example",
            "https:\\\\evil.example",
            "/a\u{7f}b",
            "/ü",
        ];
        assert!(hostile.len() >= 50);
        for path in hostile {
            assert_eq!(return_path(path), "/", "{path:?}");
        }
        let long = format!("/{}", "a".repeat(PATH_BYTES_MAX));
        assert_eq!(return_path(&long), "/");
        assert_eq!(return_path(&long[..PATH_BYTES_MAX]), &long[..PATH_BYTES_MAX]);
    }
}
