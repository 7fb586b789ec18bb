//! Tests of the reader.

use serde_json::json;

use super::*;

fn lines(reader: Reader) -> Vec<String> {
    match reader.finish() {
        Ok(_) => Vec::new(),
        Err(errors) => errors.problems().iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn every_wrong_member_is_reported_with_path_and_value() {
    let reader = Reader::new("f.json");
    let value = json!({
        "s": 1, "b": "yes", "i": 70000, "d": 10, "d2": "10", "d3": "2h", "w": "loud", "l": {"x": 1}, "o": [], "u": "xyz"
    });
    let mut root = reader.object(&value, "").unwrap();
    assert_eq!(root.string("s"), None);
    assert_eq!(root.boolean("b"), None);
    assert_eq!(root.integer("i", 1..=65535), None);
    let range = Duration::from_secs(1)..=Duration::from_secs(60);
    assert_eq!(root.duration("d", range.clone()), None);
    assert_eq!(root.duration("d2", range.clone()), None);
    assert_eq!(root.duration("d3", range), None);
    assert_eq!(root.word("w", &[("info", 1), ("warn", 2), ("debug", 3)]), None);
    assert!(root.strings("l", 3).is_empty());
    assert!(root.object("o").is_none());
    assert_eq!(root.parsed("u", |_| Err::<(), _>("must be a URL")), None);
    assert_eq!(root.required_string("gone"), None);
    root.finish();
    assert_eq!(
        lines(reader),
        [
            "f.json: s: 1: must be a string",
            "f.json: b: \"yes\": must be true or false",
            "f.json: i: 70000: must be a whole number from 1 to 65535",
            "f.json: d: 10: must be a duration in quotes such as \"10s\", \"1m30s\" or \"500ms\"",
            "f.json: d2: \"10\": every number of a duration needs a unit: h, m, s, ms, us or ns",
            "f.json: d3: \"2h\": must be from 1s to 1m",
            "f.json: w: \"loud\": must be \"info\", \"warn\" or \"debug\"",
            "f.json: l: an object: must be a list of strings",
            "f.json: o: a list: must be an object",
            "f.json: u: \"xyz\": must be a URL",
            "f.json: gone: is missing: a string is needed",
        ]
    );
}

#[test]
fn right_members_are_read_and_null_is_absent() {
    let reader = Reader::new("f");
    let value = json!({"s": "x", "b": true, "i": 7, "d": "1m30s", "lone": "a", "list": ["a", "b"], "o": {}, "n": null});
    let mut root = reader.object(&value, "").unwrap();
    assert_eq!(root.string("s").as_deref(), Some("x"));
    assert_eq!(root.boolean("b"), Some(true));
    assert_eq!(root.integer("i", 0..=7), Some(7));
    assert_eq!(root.duration("d", Duration::ZERO..=Duration::from_secs(90)), Some(Duration::from_secs(90)));
    assert_eq!(root.strings("lone", 1), [("lone".to_owned(), "a".to_owned())]);
    assert_eq!(root.strings("list", 2).last(), Some(&("list[1]".to_owned(), "b".to_owned())));
    assert!(root.object("o").is_some());
    assert_eq!(root.string("n"), None);
    assert!(!root.has("n"));
    root.finish();
    assert!(lines(reader).is_empty());
}

#[test]
fn unknown_key_gets_the_nearest_known_one_and_never_its_value() {
    let reader = Reader::new("f");
    let value = json!({"authtokn": "hunter2", "Conect_url": "hunter2", "zzz": "hunter2", "a b": {"c": "hunter2"}});
    let mut root = reader.object(&value, "agent").unwrap();
    root.secret("authtoken");
    root.string("connect_url");
    root.finish();
    let lines = lines(reader);
    assert!(lines.iter().all(|line| !line.contains("hunter2")), "{lines:?}");
    assert!(lines.contains(&"f: agent.authtokn: unknown key: did you mean \"authtoken\"?".to_owned()), "{lines:?}");
    assert!(lines.contains(&"f: agent.Conect_url: unknown key: did you mean \"connect_url\"?".to_owned()), "{lines:?}");
    assert!(
        lines.contains(&"f: agent.zzz: unknown key: the keys here are authtoken, connect_url".to_owned()),
        "{lines:?}"
    );
    assert!(lines.iter().any(|line| line.starts_with("f: agent[\"a b\"]: unknown key")), "{lines:?}");
}

#[test]
fn secret_of_wrong_type_is_not_shown() {
    let reader = Reader::new("f");
    let value = json!({"authtoken": 20061999});
    let mut root = reader.object(&value, "agent").unwrap();
    assert_eq!(root.secret("authtoken"), None);
    root.finish();
    assert_eq!(lines(reader), ["f: agent.authtoken: [secret]: must be a string"]);
}

#[test]
fn list_beyond_its_limit_is_refused_and_only_the_limit_is_read() {
    let reader = Reader::new("f");
    let value = json!({"l": ["a", "b", "c"], "o": [{}, 1]});
    let mut root = reader.object(&value, "").unwrap();
    assert_eq!(root.strings("l", 2).len(), 2);
    assert_eq!(root.objects("o", 2).len(), 1);
    root.finish();
    assert_eq!(
        lines(reader),
        ["f: l: a list: must have at most 2 entries, this has 3", "f: o[1]: 1: must be an object"]
    );
}

#[test]
fn syntax_error_and_duplicates_are_problems() {
    let reader = Reader::new("f");
    assert!(reader.parse_json("{\"a\": }").is_none());
    assert!(reader.parse_json("{\"a\": 1, \"a\": 2}").is_some());
    let lines = lines(reader);
    assert_eq!(lines[0], "f: is not valid JSON: expected value at line 1 column 7");
    assert_eq!(lines[1], "f: a: this key occurs more than once: keep one of them");
}

#[test]
fn refused_member_is_reported_only_when_present() {
    let reader = Reader::new("f");
    let value = json!({"tunnels": {"a": 1}});
    let mut root = reader.object(&value, "").unwrap();
    root.refuse("tunnels", "use endpoints");
    root.refuse("absent", "never seen");
    root.finish();
    assert_eq!(lines(reader), ["f: tunnels: use endpoints"]);
}
