//! The parameters of a request.

use percent_encoding::percent_decode_str;

use crate::admit::shown;
use crate::fleet::report::Filter;

/// What a request names behind its path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// Which sites or sessions are meant.
    pub(super) filter: Filter,
    /// For how many seconds.
    pub(super) seconds: Option<u64>,
    /// All of them are meant.
    pub(super) all: bool,
}

impl Query {
    /// Reads `name=value&…`; each name at most once, and only those that the route takes.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub(super) fn parse(text: &str, taken: &[&str]) -> Result<Self, String> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !taken.contains(&name) {
                return Err(format!("{}: is no parameter here; {}", shown(name), there_are(taken)));
            }
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value).decode_utf8().map_err(|_| format!("{name}: is not UTF-8"))?;
            let Filter { account, credential, instance, session } = &mut query.filter;
            match name {
                "account" => once(name, account, value.into_owned())?,
                "credential" => once(name, credential, value.into_owned())?,
                "instance" => once(name, instance, value.into_owned())?,
                "session" => once(name, session, number(name, &value)?)?,
                "seconds" => once(name, &mut query.seconds, number(name, &value)?)?,
                "all" if value == "true" => query.all = true,
                _ => return Err(format!("{name}: can only be true")),
            }
        }
        Ok(query)
    }
}

/// Which parameters there are.
fn there_are(taken: &[&str]) -> String {
    match taken {
        [] => "there are none".to_owned(),
        [one] => format!("there is {one}"),
        [first @ .., last] => format!("there are {} and {last}", first.join(", ")),
    }
}

fn once<T>(name: &str, place: &mut Option<T>, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{name}: is there twice")),
    }
}

fn number(name: &str, value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("{name}: must be a whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 6] = ["account", "credential", "instance", "session", "seconds", "all"];

    fn read(text: &str) -> Result<Query, String> {
        Query::parse(text, &ALL)
    }

    #[test]
    fn parameter_that_a_route_does_not_take_is_refused_with_those_that_it_takes() {
        assert!(Query::parse("all=true", &["all"]).is_ok());
        for (taken, says) in [
            (&[][..], "seconds: is no parameter here; there are none"),
            (&["all"], "seconds: is no parameter here; there is all"),
            (&["account", "session", "all"], "seconds: is no parameter here; there are account, session and all"),
        ] {
            assert_eq!(Query::parse("seconds=1", taken).unwrap_err(), says);
        }
        assert!(Query::parse(&"x".repeat(9000), &[]).unwrap_err().len() < 300);
    }

    #[test]
    fn parameters_are_read_and_mistakes_named() {
        assert_eq!(read(""), Ok(Query::default()));
        let query = read("account=a%20b&credential=c&instance=%C3%A9+x&session=7&seconds=40&all=true").unwrap();
        assert_eq!(query.filter.account.as_deref(), Some("a b"));
        assert_eq!(query.filter.credential.as_deref(), Some("c"));
        assert_eq!(query.filter.instance.as_deref(), Some("é x"));
        assert_eq!((query.filter.session, query.seconds, query.all), (Some(7), Some(40), true));
        for (text, says) in [
            ("session=x", "session: must be a whole number"),
            ("session=-1", "session: must be"),
            ("session=1&session=2", "session: is there twice"),
            ("acount=a", "acount: is no parameter here; there are account, "),
            ("all=yes", "all: can only be true"),
            ("account=%ff", "account: is not UTF-8"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(says), "{text}: {error}");
        }
    }
}
