//! The cookies of log-ins: how they are named, found in a request, kept from the upstream, and set.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use time::Duration;

/// Where a cookie counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The endpoint's own host and no other.
    Host,
    /// All hosts of a domain.
    Domain(Box<str>),
}

/// What a cookie of ours is called: `__Host-` makes browsers refuse one that another host has set (RFC 6265bis, 4.1.3).
#[must_use]
pub fn name(kind: &str, reach: &Reach) -> String {
    match reach {
        Reach::Host => format!("__Host-{PREFIX}{kind}"),
        Reach::Domain(_) => format!("__Secure-{PREFIX}{kind}"),
    }
}

/// The values of all cookies of this name, in the order of the request.
pub fn values<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h str> {
    named(headers).filter(move |(found, _)| *found == name).map(|(_, value)| value)
}

/// The names of all cookies that are made of this and so many more bytes, in the order of the request.
pub fn names_beginning<'h>(headers: &'h HeaderMap, prefix: &str, more: usize) -> impl Iterator<Item = &'h str> {
    let is_one = move |name: &&str| name.strip_prefix(prefix).is_some_and(|rest| rest.len() == more);
    named(headers).map(|(name, _)| name).filter(is_one)
}

/// Takes our own cookies out of a request, and gives them: an upstream, or a policy, that had them could pass for the visitor.
#[must_use]
pub fn take(headers: &mut HeaderMap) -> HeaderMap {
    if !pairs(headers).any(is_ours) {
        return HeaderMap::new();
    }
    let (ours, kept): (Vec<&[u8]>, Vec<&[u8]>) = pairs(headers).partition(|pair| is_ours(pair));
    let line =
        |pairs: Vec<&[u8]>| HeaderValue::from_bytes(&pairs.join(&b"; "[..])).ok().filter(|line| !line.is_empty());
    let (ours, kept) = (line(ours), line(kept));
    headers.remove(COOKIE);
    headers.extend(kept.map(|line| (COOKIE, line)));
    ours.map(|line| (COOKIE, line)).into_iter().collect()
}

/// The value of `Set-Cookie`. `None`: it cannot be written.
#[must_use]
pub fn set(name: &str, value: &str, reach: &Reach, age: Duration) -> Option<HeaderValue> {
    let domain = match reach {
        Reach::Host => String::new(),
        Reach::Domain(domain) => format!("; Domain={domain}"),
    };
    let seconds = age.whole_seconds().max(0);
    // Not `Strict`: the way back from the provider begins at another site.
    let line = format!("{name}={value}; Path=/{domain}; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax");
    let mut line = HeaderValue::from_str(&line).ok()?;
    line.set_sensitive(true);
    Some(line)
}

/// As [`set`], and browsers also send it with a form that another site's page posts here. For what is of no use by itself.
#[must_use]
pub fn set_across_sites(name: &str, value: &str, reach: &Reach, age: Duration) -> Option<HeaderValue> {
    let line = set(name, value, reach, age)?;
    let line = line.to_str().ok()?.strip_suffix("Lax")?;
    let mut line = HeaderValue::from_str(&format!("{line}None")).ok()?;
    line.set_sensitive(true);
    Some(line)
}

/// The value of `Set-Cookie` that takes a cookie away.
#[must_use]
pub fn clear(name: &str, reach: &Reach) -> Option<HeaderValue> {
    set(name, "", reach, Duration::ZERO)
}

fn named(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    pairs(headers).filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='))
}

/// As bytes: what another page has set may be anything, and must not hide the rest.
fn pairs(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    lines.flat_map(|line| line.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii)
}

fn is_ours(pair: &[u8]) -> bool {
    let name = pair.strip_prefix(b"__Host-").or_else(|| pair.strip_prefix(b"__Secure-"));
    name.is_some_and(|name| name.starts_with(PREFIX.as_bytes()))
}

const PREFIX: &str = "adit-";

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (COOKIE, HeaderValue::from_static(line))).collect()
    }

    #[test]
    fn cookies_are_found_on_every_line() {
        let headers = request(&["a=1; __Host-adit-session=x", "__Host-adit-session=y=z;b=2"]);
        let name = name("session", &Reach::Host);
        assert_eq!(values(&headers, &name).collect::<Vec<_>>(), ["x", "y=z"]);
        assert_eq!(values(&headers, "__Host-adit-sessio").count(), 0);
    }

    #[test]
    fn upstream_gets_the_visitors_other_cookies_and_none_of_ours() {
        let mut headers =
            request(&["a=1; __Host-adit-session=x; b=2", "__Secure-adit-session-team=y", "c=__Host-adit-"]);
        let ours = take(&mut headers);
        assert_eq!(ours[COOKIE], "__Host-adit-session=x; __Secure-adit-session-team=y");
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=__Host-adit-"]);
        let mut alone = request(&["__Host-adit-session=x"]);
        assert_eq!(take(&mut alone).len(), 1);
        assert!(alone.is_empty());
        let mut others = request(&["a=1", "b=2"]);
        assert!(take(&mut others).is_empty());
        assert_eq!(others.get_all(COOKIE).iter().count(), 2);
        let mut odd = HeaderMap::new();
        odd.insert(COOKIE, HeaderValue::from_bytes(b"x=\xff; __Host-adit-session=y").unwrap());
        assert_eq!(values(&take(&mut odd), "__Host-adit-session").collect::<Vec<_>>(), ["y"]);
        assert_eq!(odd[COOKIE].as_bytes(), b"x=\xff");
    }

    #[test]
    fn cookie_is_bound_to_the_host_or_to_the_domain_that_is_asked_for() {
        let host = set(&name("session", &Reach::Host), "v", &Reach::Host, Duration::hours(1)).unwrap();
        assert_eq!(host, "__Host-adit-session=v; Path=/; Max-Age=3600; Secure; HttpOnly; SameSite=Lax");
        let domain = Reach::Domain("example.com".into());
        let line = set(&name("session", &domain), "v", &domain, Duration::seconds(5)).unwrap();
        let expected = "__Secure-adit-session=v; Path=/; Domain=example.com; Max-Age=5; Secure; HttpOnly; SameSite=Lax";
        assert_eq!(line, expected);
        assert_eq!(clear("n", &Reach::Host).unwrap(), "n=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax");
        assert!(format!("{host:?}").contains("Sensitive"));
        let across = set_across_sites("__Host-adit-login-x", "v", &Reach::Host, Duration::seconds(5)).unwrap();
        assert_eq!(across, "__Host-adit-login-x=v; Path=/; Max-Age=5; Secure; HttpOnly; SameSite=None");
        assert!(across.is_sensitive());
    }
}
