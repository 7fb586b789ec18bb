//! The time of the build, by the rules of `build.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps; clippy.toml covers only #[test] functions")]

#[path = "../build.rs"]
#[allow(dead_code, reason = "the script's own entry point")]
mod build_script;

use std::fs;

use adit::wall_time::WallTime;

use build_script::{midnight, newest_heading, source_date};

fn written(word: &str) -> Option<String> {
    midnight(word).map(|seconds| WallTime::from_unix(seconds).to_string())
}

#[test]
fn newest_date_of_a_heading_counts_whether_released_or_not() {
    let changelog = "# Changelog\n\n2031-01-01 is no heading\n\n## 0.3.0 - unreleased, since 2027-03-02\n\n- 2030-01-01\n\n\
                     ### 2032-01-01\n\n## 0.2.0 - 2027-03-01\n\n## 0.1.0 - 2026-12-31\n";
    assert_eq!(newest_heading(changelog), midnight("2027-03-02"));
    assert_eq!(newest_heading("## 0.2.0 - unreleased\n\n## 0.1.0 - 2026-12-31\n"), midnight("2026-12-31"));
    assert_eq!(newest_heading("## 0.1.0 - unreleased\n"), None);
}

#[test]
fn day_is_counted_as_the_log_writes_it() {
    for word in ["1970-01-01", "1999-12-31", "2000-02-29", "2000-03-01", "2026-11-23", "2100-03-01", "2400-02-29"] {
        assert_eq!(written(word), Some(format!("{word}T00:00:00Z")));
    }
    for word in
        ["", "0.1.0", "2026-11", "2026-11-23-1", "26-11-23", "2026-13-01", "2026-00-01", "2026-1-1", "1969-12-31"]
    {
        assert_eq!(written(word), None, "{word}");
    }
}

#[test]
fn source_date_is_seconds_or_an_error() {
    assert_eq!(source_date("0"), Ok(0));
    assert_eq!(source_date("253402300799"), Ok(253_402_300_799));
    for text in ["", "-1", "2026-11-23", "253402300800", "1e9"] {
        assert!(source_date(text).unwrap_err().contains("SOURCE_DATE_EPOCH"), "{text}");
    }
}

/// Sources without git and without SOURCE_DATE_EPOCH have to build too.
#[test]
fn changelog_has_a_date_and_the_build_is_not_before_the_first() {
    let changelog = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/CHANGELOG.md")).unwrap();
    assert!(newest_heading(&changelog).is_some());
    let is_packagers = std::env::var_os("SOURCE_DATE_EPOCH").is_some();
    let first = WallTime::from_unix(midnight("2026-11-23").unwrap());
    assert!(is_packagers || WallTime::BUILD >= first, "{}", WallTime::BUILD);
}
