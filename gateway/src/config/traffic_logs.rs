//! Which logs of traffic and of administrative acts there are.

use adit::config::reader::Object;

use super::Base;
use crate::access_log::Place;
use crate::ledger::{AccessLogConfig, LedgerConfig};

/// Reads `access_log` and `audit_log`.
pub(super) fn read(root: &mut Object<'_>, base: &Base) -> LedgerConfig {
    let access = root.object("access_log").and_then(|mut section| {
        let place = read_place(&mut section, base);
        let has_query = section.boolean("query").unwrap_or_default();
        section.finish();
        Some(AccessLogConfig { place: place?, has_query })
    });
    let audit = root.object("audit_log").and_then(|mut section| {
        let place = read_place(&mut section, base);
        section.finish();
        place
    });
    LedgerConfig { access, audit }
}

fn read_place(section: &mut Object<'_>, base: &Base) -> Option<Place> {
    section.word("format", &[("json", ())]);
    let stdout = section.boolean("stdout").unwrap_or_default();
    match (section.string("file"), stdout) {
        (Some(_), true) => section.refuse("stdout", "stands beside `file`: a log goes to one of them"),
        (Some(file), false) => return Some(Place::File(base.resolve(&file))),
        (None, true) => return Some(Place::Stdout),
        (None, false) => section.missing("file", "where does it go? A path, or `stdout: true`"),
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use adit::config::reader::Reader;

    use super::*;

    fn parse(json: &str) -> Result<LedgerConfig, String> {
        let reader = Reader::new("gateway.yml".to_owned());
        let tree = reader.parse_json(json).unwrap();
        let config = reader.object(&tree, "").map(|mut root| {
            let config = read(&mut root, &Base::of(Path::new("/etc/adit/gateway.yml")));
            root.finish();
            config
        });
        reader.finish().map_err(|errors| errors.to_string())?;
        Ok(config.unwrap())
    }

    #[test]
    fn logs_go_to_files_beside_the_configuration_or_to_standard_output() {
        let config =
            parse(r#"{"access_log": {"file": "access.log", "format": "json"}, "audit_log": {"stdout": true}}"#);
        let place = Place::File("/etc/adit/access.log".into());
        let expected =
            LedgerConfig { access: Some(AccessLogConfig { place, has_query: false }), audit: Some(Place::Stdout) };
        assert_eq!(config, Ok(expected));
        assert_eq!(parse("{}"), Ok(LedgerConfig::default()));
        let asked = parse(r#"{"access_log": {"stdout": true, "query": true}}"#).unwrap();
        assert!(asked.access.unwrap().has_query);
    }

    #[test]
    fn log_goes_to_one_place() {
        for (text, expected) in [
            (r#"{"access_log": {}}"#, "access_log.file"),
            (r#"{"access_log": {"file": "a", "stdout": true}}"#, "access_log.stdout"),
            (r#"{"audit_log": {"file": "a", "query": true}}"#, "audit_log.query"),
            (r#"{"audit_log": {"file": "a", "format": "text"}}"#, "audit_log.format"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
