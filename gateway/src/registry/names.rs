//! A table of endpoint addresses in which the most specific match for a name is found without allocating.

use std::collections::HashMap;

use adit::endpoint_url::{EndpointUrl, Scheme};

/// Values by address. Exact names and wildcards are kept apart, so that one never shadows or joins the other.
#[derive(Debug)]
pub(crate) struct Names<T> {
    groups: HashMap<(Scheme, u16), Group<T>>,
}

#[derive(Debug)]
struct Group<T> {
    exact: HashMap<String, T>,
    /// By what follows the `*.`.
    below: HashMap<String, T>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { groups: HashMap::new() }
    }
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), below: HashMap::new() }
    }
}

impl<T> Names<T> {
    pub(crate) fn find(&self, url: &EndpointUrl) -> Option<&T> {
        let group = self.groups.get(&(url.scheme(), url.port()))?;
        match parent(url) {
            Some(parent) => group.below.get(parent),
            None => group.exact.get(key(url)),
        }
    }

    pub(crate) fn find_mut(&mut self, url: &EndpointUrl) -> Option<&mut T> {
        let group = self.groups.get_mut(&(url.scheme(), url.port()))?;
        match parent(url) {
            Some(parent) => group.below.get_mut(parent),
            None => group.exact.get_mut(key(url)),
        }
    }

    pub(crate) fn entry(&mut self, url: &EndpointUrl) -> &mut T
    where
        T: Default,
    {
        let group = self.groups.entry((url.scheme(), url.port())).or_default();
        match parent(url) {
            Some(parent) => group.below.entry(parent.to_owned()).or_default(),
            None => group.exact.entry(key(url).to_owned()).or_default(),
        }
    }

    pub(crate) fn remove(&mut self, url: &EndpointUrl) {
        let place = (url.scheme(), url.port());
        let Some(group) = self.groups.get_mut(&place) else { return };
        match parent(url) {
            Some(parent) => group.below.remove(parent),
            None => group.exact.remove(key(url)),
        };
        if group.exact.is_empty() && group.below.is_empty() {
            self.groups.remove(&place);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Finds the most specific value for `host` that gives something, and how specific it is.
    pub(crate) fn most_specific<R>(
        &self,
        scheme: Scheme,
        host: &str,
        port: u16,
        mut give: impl FnMut(&T) -> Option<R>,
    ) -> Option<(usize, R)> {
        let group = self.groups.get(&(scheme, port))?;
        if let Some(found) = group.exact.get(host).and_then(&mut give) {
            return Some((EXACT, found));
        }
        parents(host).find_map(|parent| Some((parent.len(), group.below.get(parent).and_then(&mut give)?)))
    }

    /// Finds the most specific value for a name on a public listener. What names no port is served on every listener of
    /// its scheme, and TCP goes by the port alone.
    pub(crate) fn public<R>(
        &self,
        scheme: Scheme,
        host: &str,
        port: u16,
        mut give: impl FnMut(&T) -> Option<R>,
    ) -> Option<(usize, R)> {
        let host = if scheme == Scheme::Tcp { "" } else { host };
        let named = self.most_specific(scheme, host, port, &mut give);
        let default = scheme.default_port().filter(|default| *default != port);
        let unnamed = default.and_then(|port| self.most_specific(scheme, host, port, give));
        match (named, unnamed) {
            (Some(named), Some(unnamed)) if unnamed.0 > named.0 => Some(unnamed),
            (named, unnamed) => named.or(unnamed),
        }
    }

    /// Whether a public TCP endpoint has this port.
    pub(crate) fn has_tcp_port(&self, port: u16) -> bool {
        self.groups.contains_key(&(Scheme::Tcp, port))
    }

    /// Lists everything whose names meet those of a host or wildcard, whatever the scheme and port: the same name, a
    /// wildcard above it, or, when it is a wildcard itself, anything below it.
    pub(crate) fn meeting<'a>(&'a self, url: &'a EndpointUrl) -> impl Iterator<Item = &'a T> {
        // TCP endpoints are told apart by the port alone, so they take no name from anybody.
        let groups = self.groups.iter().filter(|((scheme, _), _)| *scheme != Scheme::Tcp);
        groups.flat_map(move |(_, group)| {
            let name = parent(url).unwrap_or(url.host());
            let same = match parent(url) {
                Some(parent) => group.below.get(parent),
                None => group.exact.get(name),
            };
            let above = parents(name).filter_map(|parent| group.below.get(parent));
            let under = url.is_wildcard().then_some(group).into_iter().flat_map(move |group| {
                let exact = group.exact.iter().filter(move |(host, _)| is_below(host, name));
                let below = group.below.iter().filter(move |(host, _)| is_below(host, name));
                exact.chain(below).map(|(_, value)| value)
            });
            same.into_iter().chain(above).chain(under)
        })
    }
}

/// What a visitor of a public TCP endpoint reaches is decided by the port; the name in its URL is for humans. Internal
/// ones are told apart by both.
fn key(url: &EndpointUrl) -> &str {
    if url.scheme() == Scheme::Tcp && !url.is_internal() { "" } else { url.host() }
}

fn parent(url: &EndpointUrl) -> Option<&str> {
    url.host().strip_prefix("*.")
}

/// Whether whoever looks for `url` may be led to the wildcard `pattern`.
pub(crate) fn covers(pattern: &EndpointUrl, url: &EndpointUrl) -> bool {
    let is_same = (pattern.scheme(), pattern.port()) == (url.scheme(), url.port());
    is_same && parent(pattern).is_some_and(|parent| is_below(url.host(), parent))
}

/// The names above a host, the longest first, the host itself not among them.
fn parents(host: &str) -> impl Iterator<Item = &str> {
    host.match_indices('.').filter_map(|(at, _)| host.get(at + 1..))
}

fn is_below(host: &str, parent: &str) -> bool {
    host.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// More specific than any wildcard, whose measure is the length of its parent.
pub(crate) const EXACT: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> EndpointUrl {
        EndpointUrl::parse(text).unwrap()
    }

    fn names(urls: &[&str]) -> Names<String> {
        let mut names = Names::default();
        for text in urls {
            *names.entry(&url(text)) = (*text).to_owned();
        }
        names
    }

    fn best(names: &Names<String>, host: &str) -> Option<String> {
        names.most_specific(Scheme::Https, host, 443, |value| Some(value.clone())).map(|(_, value)| value)
    }

    #[test]
    fn most_specific_name_wins_at_any_depth() {
        let names = names(&["https://a.b.example.com", "https://*.b.example.com", "https://*.example.com"]);
        for (host, expected) in [
            ("a.b.example.com", Some("https://a.b.example.com")),
            ("x.b.example.com", Some("https://*.b.example.com")),
            ("x.y.b.example.com", Some("https://*.b.example.com")),
            ("b.example.com", Some("https://*.example.com")),
            ("example.com", None),
            ("xexample.com", None),
            ("", None),
            ("...", None),
        ] {
            assert_eq!(best(&names, host).as_deref(), expected, "{host}");
        }
    }

    #[test]
    fn names_that_give_nothing_fall_through_to_wider_ones() {
        let names = names(&["https://a.example.com", "https://*.example.com"]);
        let found = names
            .most_specific(Scheme::Https, "a.example.com", 443, |value| value.contains('*').then(|| value.clone()));
        assert_eq!(found, Some((11, "https://*.example.com".to_owned())));
    }

    #[test]
    fn scheme_and_port_separate() {
        let names = names(&["https://a.example.com"]);
        assert!(names.most_specific(Scheme::Http, "a.example.com", 443, |v| Some(v.clone())).is_none());
        assert!(names.most_specific(Scheme::Https, "a.example.com", 8443, |v| Some(v.clone())).is_none());
    }

    #[test]
    fn meeting_finds_same_above_and_below_whatever_the_scheme() {
        let names = names(&["https://a.example.com", "http://*.example.com", "tls://x.y.example.com:444"]);
        let meeting = |text: &str| {
            let url = url(text);
            let mut found: Vec<_> = names.meeting(&url).cloned().collect();
            found.sort();
            found
        };
        assert_eq!(meeting("http://a.example.com"), ["http://*.example.com", "https://a.example.com"]);
        assert_eq!(meeting("https://q.example.com"), ["http://*.example.com"]);
        assert_eq!(meeting("https://*.y.example.com"), ["http://*.example.com", "tls://x.y.example.com:444"]);
        assert_eq!(meeting("https://*.com").len(), 3);
        assert_eq!(meeting("https://example.com"), Vec::<String>::new());
    }

    #[test]
    fn public_tcp_goes_by_port_and_internal_tcp_by_both() {
        let names = names(&["tcp://a.example.com:7000", "tcp://a.internal:7000"]);
        assert!(names.find(&url("tcp://b.example.com:7000")).is_some());
        assert!(names.find(&url("tcp://b.internal:7000")).is_none());
        assert!(names.most_specific(Scheme::Tcp, "", 7000, |v| Some(v.clone())).is_some());
    }

    #[test]
    fn removal_leaves_nothing() {
        let mut names = names(&["https://a.example.com", "https://*.example.com"]);
        names.remove(&url("https://a.example.com"));
        assert!(!names.is_empty());
        names.remove(&url("https://*.example.com"));
        names.remove(&url("https://*.example.com"));
        assert!(names.is_empty());
    }
}
