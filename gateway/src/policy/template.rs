//! Texts with `${…}` in them, each an expression whose value stands there when the action runs.

use super::expression::{Budget, Expression, Facts, Fault, Mistake, Scope};

/// A part of a text that an action works on further.
#[derive(Debug)]
pub(super) enum Piece<'t> {
    /// From the policy.
    Literal(&'t str),
    /// The value of an expression. A visitor may have written it.
    Value(String),
}

impl Piece<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Literal(text) => text,
            Self::Value(text) => text,
        }
    }
}

/// A compiled text.
#[derive(Debug)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Literal(Box<str>),
    Expression(Expression),
}

impl Template {
    /// Compiles a text for a phase.
    ///
    /// # Errors
    ///
    /// What is wrong with one of the expressions, or that one has no end.
    pub(super) fn compile(text: &str, scope: Scope<'_>) -> Result<Self, Mistake> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, tail)) = rest.split_once(OPENING) {
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.into()));
            }
            let end = end_of(tail).ok_or("has a ${ without the } that belongs to it")?;
            let (source, tail) = tail.split_at(end);
            let expression = Expression::compile(source, scope).map_err(|mistake| format!("${{{source}}} {mistake}"));
            parts.push(Part::Expression(expression?));
            if parts.len() > PARTS_MAX {
                return Err(format!("has more than {PARTS_MAX} parts"));
            }
            rest = tail.get(1..).unwrap_or_default();
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.into()));
        }
        Ok(Self { parts })
    }

    /// The text, if it is the same every time.
    pub(super) fn fixed(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// What stands in front of the first expression.
    pub(super) fn beginning(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            Some(Part::Expression(_)) | None => "",
        }
    }

    /// Its expression, if it is nothing else.
    pub(super) fn lone_expression(&self) -> Option<&Expression> {
        match self.parts.as_slice() {
            [Part::Expression(expression)] => Some(expression),
            _ => None,
        }
    }

    /// The text with the values of its expressions in it.
    ///
    /// # Errors
    ///
    /// See [`Fault`].
    pub(super) fn render(&self, facts: &Facts<'_>, budget: &mut Budget) -> Result<String, Fault> {
        Ok(self.pieces(facts, budget)?.iter().map(Piece::as_str).collect())
    }

    /// As [`Template::render`], for those that must tell apart what is from the policy.
    ///
    /// # Errors
    ///
    /// See [`Fault`].
    pub(super) fn pieces(&self, facts: &Facts<'_>, budget: &mut Budget) -> Result<Vec<Piece<'_>>, Fault> {
        let mut pieces = Vec::with_capacity(self.parts.len());
        let mut len = 0_usize;
        for part in &self.parts {
            let piece = match part {
                Part::Literal(literal) => Piece::Literal(literal),
                Part::Expression(expression) => Piece::Value(expression.shown(facts, budget)?),
            };
            len += piece.as_str().len();
            if len > TEXT_BYTES_MAX {
                return Err(Fault::Invalid(format!("a text with ${{…}} becomes longer than {TEXT_BYTES_MAX} bytes")));
            }
            pieces.push(piece);
        }
        Ok(pieces)
    }
}

/// Where the expression ends: at the first `}` that is in no string and closes no map.
fn end_of(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut is_escaped) = (0_usize, None, false);
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(open), close) if open == close => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, '{') => depth += 1,
            (None, '}') if depth == 0 => return Some(at),
            (None, '}') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

const OPENING: &str = "${";
/// Literals and expressions of one text.
const PARTS_MAX: usize = 200;
/// What a text may become: larger bodies belong to a service.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expression_ends_at_its_own_brace() {
        for (text, end) in [
            ("a} b", Some(1)),
            ("{'a': 1}['a']} }", Some(13)),
            ("'}' + \"}\"}", Some(9)),
            (r"'\'}'}", Some(5)),
            ("'}", None),
            ("{}", None),
            ("", None),
        ] {
            assert_eq!(end_of(text), end, "{text}");
        }
    }
}
