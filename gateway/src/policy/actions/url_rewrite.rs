//! `url-rewrite`: changes the path and the query of a request before it goes on; the visitor does not see it.

use http::header::HOST;
use http::uri::PathAndQuery;
use regex::{Captures, Regex};

use super::super::document::Place;
use super::super::error::{CONFIG_VALUE, PATTERN};
use super::super::expression::{Fault, Value, compile_pattern, query_pairs, split_port};
use super::super::fields::Fields;
use super::super::phase::Phase;
use super::super::run::{Run, Subject};
use super::super::template::Template;
use super::{Action, Kind, Outcome};

pub(super) const KIND: Kind = Kind { name: "url-rewrite", phases: &[Phase::HttpRequest], compile };

#[derive(Debug)]
struct UrlRewrite {
    rewriting: Rewriting,
}

/// From one URL to another.
#[derive(Debug)]
pub(super) struct Rewriting {
    from: Option<From>,
    to: Template,
}

#[derive(Debug)]
enum From {
    Fixed(Regex),
    Worked(Template),
}

impl Rewriting {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let from = fields.template("from");
        let to = fields.required_template("to", "https://example.com/new$1");
        let from = match from {
            None => None,
            Some(template) => match template.fixed().map(compile_pattern) {
                None => Some(From::Worked(template)),
                Some(Ok(pattern)) => Some(From::Fixed(pattern)),
                Some(Err(mistake)) => {
                    fields.wrong("from", PATTERN, mistake);
                    return None;
                }
            },
        };
        Some(Self { from, to: to? })
    }

    /// The new URL; none when the old one does not match.
    pub(super) fn apply(&self, url: &str, run: &mut Run<'_, '_, '_>) -> Result<Option<String>, Fault> {
        let to = run.render(&self.to)?;
        let pattern = match &self.from {
            None => return Ok(Some(expanded(&to, url, None))),
            Some(From::Fixed(pattern)) => pattern,
            Some(From::Worked(template)) => &compile_pattern(&run.render(template)?).map_err(Fault::Invalid)?,
        };
        if !pattern.is_match(url) {
            return Ok(None);
        }
        let new = pattern.replace_all(url, |captures: &Captures<'_>| expanded(&to, url, Some(captures)));
        if new.len() > URL_BYTES_MAX {
            return Err(Fault::Invalid(format!("the new URL is longer than {URL_BYTES_MAX} bytes")));
        }
        Ok(Some(new.into_owned()))
    }
}

/// The whole URL of the request that runs.
pub(super) fn url_of(run: &Run<'_, '_, '_>) -> Option<String> {
    let Subject::Request(request) = &run.subject else { return None };
    let host = String::from_utf8_lossy(request.head.headers.get(HOST)?.as_bytes()).into_owned();
    let path = request.head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    Some(format!("{}://{host}{path}", request.connection.scheme))
}

/// Puts groups of the match (`$1`, `${1}` is an expression) and parts of the old URL (`$uri`, `$arg_x`) into a text.
fn expanded(to: &str, url: &str, captures: Option<&Captures<'_>>) -> String {
    let mut out = String::with_capacity(to.len());
    let mut rest = to;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
        let len = match after.chars().next() {
            Some(first) if first.is_ascii_digit() => after.find(|character: char| !character.is_ascii_digit()),
            _ => after.find(|character: char| !is_part(character)),
        };
        let (name, tail) = after.split_at(len.unwrap_or(after.len()));
        match part(name, url, captures) {
            Some(value) => out.push_str(&value),
            None => {
                out.push('$');
                out.push_str(name);
            }
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

fn part(name: &str, url: &str, captures: Option<&Captures<'_>>) -> Option<String> {
    if let Ok(group) = name.parse::<usize>() {
        let found = captures.and_then(|captures| captures.get(group));
        return Some(found.map(|found| found.as_str().to_owned()).unwrap_or_default());
    }
    let (scheme, rest) = url.split_once("://")?;
    let (authority, uri) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let (host, port) = split_port(authority);
    Some(match name {
        "scheme" => scheme.to_owned(),
        "host" => host.to_owned(),
        "authority" => authority.to_owned(),
        "port" => port.unwrap_or(if scheme == "https" { "443" } else { "80" }).to_owned(),
        "uri" | "path" => path.to_owned(),
        "request_uri" => uri.to_owned(),
        "args" | "query_string" => query.to_owned(),
        "is_args" => if query.is_empty() { "" } else { "?" }.to_owned(),
        name => {
            let name = name.strip_prefix("arg_")?;
            query_pairs(query).find(|(known, _)| known == name).map(|(_, value)| value).unwrap_or_default()
        }
    })
}

impl Action for UrlRewrite {
    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        let Some(url) = url_of(run) else { return Outcome::NEXT };
        let rewritten = self.rewriting.apply(&url, run);
        let path = rewritten.and_then(|new| new.map(|new| path_of(&new).map(|path| (path, new))).transpose());
        match path {
            Ok(Some((path, new))) => {
                if let Subject::Request(request) = &mut run.subject {
                    request.head.uri = path.into();
                }
                let result = [("source", Value::text(&url)), ("destination", Value::text(&new))];
                run.set_result("url_rewrite", Value::map(result));
                Outcome::NEXT
            }
            Ok(None) => Outcome::NEXT,
            Err(fault) => Outcome::failed("to", &fault),
        }
    }
}

/// What of a URL goes to the agent. The endpoint stays the same, whatever host the new URL has.
fn path_of(url: &str) -> Result<PathAndQuery, Fault> {
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find(['/', '?']).map_or("/", |at| rest.get(at..).unwrap_or("/")),
        None => url,
    };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    path.parse().map_err(|_| Fault::Invalid("the new URL is not valid".into()))
}

fn compile(fields: &mut Fields<'_>, _phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    let rewriting = Rewriting::read(fields)?;
    if rewriting.to.fixed() == Some("") {
        fields.wrong("to", CONFIG_VALUE, "must not be empty");
    }
    Some(Box::new(UrlRewrite { rewriting }))
}

/// What a new URL may become.
const URL_BYTES_MAX: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn new(pattern: &str, to: &str) -> String {
        let url = "https://a.example.com:8443/old/x?b=1&c=%20";
        let pattern = Regex::new(pattern).unwrap();
        pattern.replace_all(url, |captures: &Captures<'_>| expanded(to, url, Some(captures))).into_owned()
    }

    #[test]
    fn groups_and_named_parts_stand_in_the_new_url() {
        assert_eq!(new("/old/([a-z])", "/new/$1$2"), "https://a.example.com:8443/new/x?b=1&c=%20");
        assert_eq!(new("^.*$", "$scheme://$host:$port$uri?$args"), "https://a.example.com:8443/old/x?b=1&c=%20");
        assert_eq!(new("^.*$", "/$arg_b/$arg_c/$arg_d"), "/1/ /");
        assert_eq!(new("^.*$", "$ $$uri costs $nothing"), "$ $/old/x costs $nothing");
        assert_eq!(new("[a-z]", "$0"), "https://a.example.com:8443/old/x?b=1&c=%20");
    }

    #[test]
    fn only_path_and_query_go_to_the_agent() {
        for (url, path) in [
            ("https://b.example.com/x?y", "/x?y"),
            ("https://b.example.com", "/"),
            ("https://b.example.com?y", "/?y"),
            ("/x", "/x"),
            ("x", "/x"),
        ] {
            assert_eq!(path_of(url).unwrap(), path, "{url}");
        }
        assert!(path_of("/a b").is_err());
    }
}
