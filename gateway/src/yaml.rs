//! YAML and JSON into one tree. JSON is a part of YAML, so there is one parser and one set of limits.
//!
//! What people write by hand is far below the limits; what a hostile file needs to hurt is far above them.

use std::fmt;

use adit::config::document::Document;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};

/// Why a text is not one YAML or JSON document. Displays with line and column where they are known, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError(String);

/// Parses one document. An empty one is null. Booleans are `true` and `false` alone, as in YAML 1.2: `on` and `yes`
/// are strings.
///
/// # Errors
///
/// [`SyntaxError`] for bad syntax, more than one document, and for what exceeds the limits: [`TEXT_LEN_MAX`] bytes,
/// nesting deeper than [`DEPTH_MAX`], more than [`NODES_MAX`] values, aliases that unfold to more than that.
pub fn parse(text: &str) -> Result<Document, SyntaxError> {
    if text.len() > TEXT_LEN_MAX {
        return Err(SyntaxError(format!("longer than {TEXT_LEN_MAX} bytes")));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: NODES_MAX,
        },
        // The tree notes every duplicate with its path; the parser would stop at the first.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Merge,
        strict_booleans: true,
        // The text may hold what nobody wants in a log.
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Option<Document>>(text, options)
        .map(Option::unwrap_or_default)
        .map_err(|error| SyntaxError(one_line(&error.to_string())))
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SyntaxError {}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Longest text, in bytes: some 10,000 credentials with their rules.
pub const TEXT_LEN_MAX: usize = 8 << 20;
/// Deepest nesting. A Traffic Policy inside the configuration needs about ten levels.
pub const DEPTH_MAX: usize = 64;
/// Most values and keys, counted after aliases are unfolded: what 10,000 credentials need, ten times.
pub const NODES_MAX: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> serde_json::Value {
        parse(text).unwrap().value
    }

    #[test]
    fn yaml_and_json_mean_the_same() {
        let tree = json!({"a": [1, "x", true, null, 1.5], "b": {"c": "é\u{1f600}/"}});
        assert_eq!(value("a: [1, x, true, ~, 1.5]\nb:\n  c: é😀/\n"), tree);
        assert_eq!(value("{\"a\": [1, \"x\", true, null, 1.5],\n\t\"b\": {\"c\": \"é\\ud83d\\ude00\\/\"}}"), tree);
        assert_eq!(value(""), json!(null));
        assert_eq!(value("# only a comment\n"), json!(null));
    }

    #[test]
    fn scalars_are_those_of_yaml_1_2() {
        let tree =
            value("{a: yes, b: on, c: 'true', d: 443, e: 10s, f: 0.0.0.0, g: 20000-20999, h: '[::]:443', i: -1}");
        let expected = json!({
            "a": "yes", "b": "on", "c": "true", "d": 443, "e": "10s", "f": "0.0.0.0", "g": "20000-20999",
            "h": "[::]:443", "i": -1,
        });
        assert_eq!(tree, expected);
    }

    #[test]
    fn anchors_and_merge_keys_work() {
        let tree = value("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\nlist: [*b]\n");
        assert_eq!(tree, json!({"base": {"x": 1, "y": 2}, "use": {"x": 1, "y": 3}, "list": [{"x": 1, "y": 2}]}));
    }

    #[test]
    fn duplicate_keys_are_noted_in_both_formats() {
        assert_eq!(parse("a: 1\nb: {c: 1, c: 2}\na: 2\n").unwrap().duplicates, ["b.c", "a"]);
        assert_eq!(parse("{\"a\": 1, \"a\": 2}").unwrap().duplicates, ["a"]);
    }

    #[test]
    fn bad_syntax_is_said_with_its_place_on_one_line() {
        for text in
            ["a: [1, 2", "a: b: c", "a: 1\n  b: 2", "{\"a\": \"\\q\"}", "a: 1\n---\nb: 2\n", "a: *nobody", "a: .inf"]
        {
            let error = parse(text).unwrap_err().to_string();
            assert!(!error.is_empty() && !error.contains('\n'), "{text:?}: {error:?}");
        }
        assert!(parse("x: 1\na: [1, 2").unwrap_err().to_string().contains("line 2"));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&nested(DEPTH_MAX)).is_ok());
        assert!(parse(&nested(DEPTH_MAX + 1)).is_err());
        assert!(parse(&"[".repeat(1_000_000)).is_err());
        assert!(parse(&"- ".repeat(1_000_000)).is_err());
    }

    #[test]
    fn aliases_cannot_unfold_without_bound() {
        let mut bomb = "l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let below = vec![format!("*l{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("l{level}: &l{level} [{below}]\n"));
        }
        assert!(parse(&bomb).is_err());
    }

    #[test]
    fn length_is_bounded() {
        let text = format!("a: {}", "x".repeat(TEXT_LEN_MAX - 3));
        assert!(parse(&text).is_ok());
        assert!(parse(&format!("{text}x")).is_err());
    }
}
