//! The parameters of a request.

use percent_encoding::percent_decode_str;

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
    /// Reads `name=value&…`; each name at most once.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
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
                _ => return Err(format!("{name}: there is no parameter of this name and value")),
            }
        }
        Ok(query)
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

    #[test]
    fn parameters_are_read_and_mistakes_named() {
        assert_eq!(Query::parse(""), Ok(Query::default()));
        let query = Query::parse("account=a%20b&credential=c&instance=%C3%A9+x&session=7&seconds=40&all=true").unwrap();
        assert_eq!(query.filter.account.as_deref(), Some("a b"));
        assert_eq!(query.filter.credential.as_deref(), Some("c"));
        assert_eq!(query.filter.instance.as_deref(), Some("é x"));
        assert_eq!((query.filter.session, query.seconds, query.all), (Some(7), Some(40), true));
        for (text, says) in [
            ("session=x", "session: must be a whole number"),
            ("session=-1", "session: must be"),
            ("session=1&session=2", "session: is there twice"),
            ("acount=a", "acount: there is no parameter"),
            ("all=yes", "all: there is no"),
            ("account=%ff", "account: is not UTF-8"),
        ] {
            let error = Query::parse(text).unwrap_err();
            assert!(error.starts_with(says), "{text}: {error}");
        }
    }
}
