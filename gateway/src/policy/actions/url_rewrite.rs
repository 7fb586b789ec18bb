//! `url-rewrite`: changes the path and the query of a request before it goes on; the visitor does not see it.

use http::uri::PathAndQuery;
use regex::{Captures, Regex};

use super::super::error::{CONFIG_VALUE, PATTERN};
use super::super::expression::{
    Fault, TEXT_BYTES_PER_STEP, Value, authority, compile_pattern, query_pairs, split_port,
};
use super::super::fields::Fields;
use super::super::phase::Phase;
use super::super::place::Place;
use super::super::run::{Run, Subject};
use super::super::template::{Piece, Template};
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

/// What a URL has become.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) url: String,
    /// The parts of the old URL that matched; none when the policy has no pattern.
    pub(super) matches: Vec<Value>,
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
    pub(super) fn apply(&self, url: &str, run: &mut Run<'_, '_, '_>) -> Result<Option<Rewritten>, Fault> {
        let to = run.pieces(&self.to)?;
        let mut matches = Vec::new();
        let mut new = NewUrl { to: &to, old: url, text: String::new() };
        let pattern = match &self.from {
            None => {
                new.expand(None, run)?;
                return Ok(Some(Rewritten { url: new.text, matches }));
            }
            Some(From::Fixed(pattern)) => pattern,
            Some(From::Worked(template)) => &compile_pattern(&run.render(template)?).map_err(Fault::Invalid)?,
        };
        let mut end = None;
        for captures in pattern.captures_iter(url) {
            let Some(found) = captures.get(0) else { continue };
            run.spend(1)?;
            matches.push(Value::text(found.as_str()));
            new.push(url.get(end.unwrap_or(0)..found.start()).unwrap_or_default())?;
            new.expand(Some(&captures), run)?;
            end = Some(found.end());
        }
        let Some(end) = end else { return Ok(None) };
        new.push(url.get(end..).unwrap_or_default())?;
        Ok(Some(Rewritten { url: new.text, matches }))
    }

    /// True when the new URL begins with the name of another host, as the policy has it: `//cdn.example.com/`.
    pub(super) fn names_host(&self) -> bool {
        self.to.beginning().starts_with("//")
    }
}

/// A URL that is put together. It never grows beyond [`URL_BYTES_MAX`].
struct NewUrl<'u> {
    to: &'u [Piece<'u>],
    old: &'u str,
    text: String,
}

impl NewUrl<'_> {
    fn push(&mut self, text: &str) -> Result<(), Fault> {
        if self.text.len() + text.len() > URL_BYTES_MAX {
            return Err(Fault::Invalid(format!("the new URL is longer than {URL_BYTES_MAX} bytes")));
        }
        self.text.push_str(text);
        Ok(())
    }

    /// Appends what takes the place of one match. In what the policy says, groups of the match (`$1`; `${1}` is an
    /// expression) and parts of the old URL (`$uri`, `$arg_x`) are put in; what a visitor may have written stays as it is.
    fn expand(&mut self, captures: Option<&Captures<'_>>, run: &mut Run<'_, '_, '_>) -> Result<(), Fault> {
        for piece in self.to {
            run.spend(1)?;
            match piece {
                Piece::Literal(text) => self.expand_literal(text, captures, run)?,
                Piece::Value(text) => self.push(text)?,
            }
        }
        Ok(())
    }

    fn expand_literal(
        &mut self,
        literal: &str,
        captures: Option<&Captures<'_>>,
        run: &mut Run<'_, '_, '_>,
    ) -> Result<(), Fault> {
        let mut rest = literal;
        while let Some((before, after)) = rest.split_once('$') {
            self.push(before)?;
            let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
            let len = match after.chars().next() {
                Some(first) if first.is_ascii_digit() => after.find(|character: char| !character.is_ascii_digit()),
                _ => after.find(|character: char| !is_part(character)),
            };
            let (name, tail) = after.split_at(len.unwrap_or(after.len()));
            // To find a part, the old URL is gone through.
            run.spend(1 + self.old.len() / TEXT_BYTES_PER_STEP)?;
            match part(name, self.old, captures) {
                Some(value) => self.push(&value)?,
                None => {
                    self.push("$")?;
                    self.push(name)?;
                }
            }
            rest = tail;
        }
        self.push(rest)
    }
}

/// The whole URL of the request that runs.
pub(super) fn url_of(run: &Run<'_, '_, '_>) -> Option<String> {
    let Subject::Request(request) = &run.subject else { return None };
    let path = request.head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    Some(format!("{}{path}", origin_of(run)?))
}

/// The beginning of that URL: scheme and authority.
pub(super) fn origin_of(run: &Run<'_, '_, '_>) -> Option<String> {
    let Subject::Request(request) = &run.subject else { return None };
    Some(format!("{}://{}", request.connection.scheme, authority(&request.head.headers)?))
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
        let path = rewritten.and_then(|new| new.map(|new| path_of(&new.url).map(|path| (path, new))).transpose());
        match path {
            Ok(Some((path, new))) => {
                if let Subject::Request(request) = &mut run.subject {
                    request.head.uri = path.into();
                }
                run.set_result("url_rewrite", result(&url, &new.url, new.matches));
                Outcome::NEXT
            }
            Ok(None) => {
                run.set_result("url_rewrite", result(&url, &url, Vec::new()));
                Outcome::NEXT
            }
            Err(fault) => Outcome::failed("to", &fault),
        }
    }
}

/// What the action leaves behind.
pub(super) fn result(old: &str, new: &str, matches: Vec<Value>) -> Value {
    let new = Value::text(new);
    Value::map([
        ("matches", Value::list(matches)),
        ("url", new.clone()),
        ("source", Value::text(old)),
        ("destination", new),
    ])
}

/// What of a URL goes to the agent. The endpoint stays the same, whatever host the new URL has.
fn path_of(url: &str) -> Result<PathAndQuery, Fault> {
    let path = match url.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) {
        Some((_, rest)) => rest.find(['/', '?']).map_or("/", |at| rest.get(at..).unwrap_or("/")),
        None => url,
    };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    path.parse().map_err(|_| Fault::Invalid("the new URL is not valid".into()))
}

/// As RFC 3986 has it. Anything else before a `://` is a path with those characters in it, which a visitor may have written.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|character| character.is_ascii_alphanumeric() || "+-.".contains(character))
}

fn compile(fields: &mut Fields<'_>, _phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    let rewriting = Rewriting::read(fields)?;
    if rewriting.to.fixed() == Some("") {
        fields.wrong("to", CONFIG_VALUE, "must not be empty");
    }
    Some(Box::new(UrlRewrite { rewriting }))
}

/// What a new URL may become.
pub(super) const URL_BYTES_MAX: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_path_and_query_go_to_the_agent() {
        for (url, path) in [
            ("https://b.example.com/x?y", "/x?y"),
            ("https://b.example.com", "/"),
            ("https://b.example.com?y", "/?y"),
            ("/x", "/x"),
            ("x", "/x"),
            ("/v2/x=://y/admin", "/v2/x=://y/admin"),
            ("/v2/https://y/admin", "/v2/https://y/admin"),
            ("v2?x://y/admin", "/v2?x://y/admin"),
            ("://y/admin", "/://y/admin"),
            ("1a://y/admin", "/1a://y/admin"),
            ("web+a-b.1://y/admin", "/admin"),
        ] {
            assert_eq!(path_of(url).unwrap(), path, "{url}");
        }
        assert!(path_of("/a b").is_err());
    }
}
