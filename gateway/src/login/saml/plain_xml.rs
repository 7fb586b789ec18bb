//! What XML has to be before it is parsed: short, flat, and without anything that changes what a reader makes of it.

use std::fmt;

/// Bytes of a message or of a description of a provider.
pub const BYTES_MAX: usize = 256 * 1024;
/// Elements inside one another. Signed and encrypted responses have some twelve.
pub const DEPTH_MAX: usize = 32;
/// Attributes of one element, declarations of name spaces among them.
pub const ATTRIBUTES_MAX: usize = 32;
/// Elements of one document. A person in five hundred groups has as many.
pub const ELEMENTS_MAX: usize = 4096;

/// What a document may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comments {
    /// No comments: in messages, where a text with one in its midst is one text for some readers and two for others.
    Refused,
    /// In descriptions of providers, which people write and the operator names.
    Taken,
}

/// Why a document is not parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It has more than [`BYTES_MAX`] bytes.
    Long,
    /// It is not UTF-8.
    Encoding,
    /// It has a document type: entities and external references begin there.
    DocumentType,
    /// It has a comment.
    Comment,
    /// It has a CDATA section.
    Section,
    /// It has a processing instruction.
    Instruction,
    /// Its elements stand more than [`DEPTH_MAX`] deep.
    Depth,
    /// An element has more than [`ATTRIBUTES_MAX`] attributes.
    Attributes,
    /// It has more than [`ELEMENTS_MAX`] elements.
    Elements,
    /// It is no XML.
    Broken,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Long => write!(f, "it has more than {BYTES_MAX} bytes"),
            Self::Encoding => f.write_str("it is not UTF-8"),
            Self::DocumentType => f.write_str("it has a document type (DTD), with which entities come"),
            Self::Comment => f.write_str("it has a comment, which can hide a part of a name"),
            Self::Section => f.write_str("it has a CDATA section"),
            Self::Instruction => f.write_str("it has a processing instruction"),
            Self::Depth => write!(f, "its elements are nested more than {DEPTH_MAX} deep"),
            Self::Attributes => write!(f, "an element has more than {ATTRIBUTES_MAX} attributes"),
            Self::Elements => write!(f, "it has more than {ELEMENTS_MAX} elements"),
            Self::Broken => f.write_str("it is not well-formed XML"),
        }
    }
}

impl std::error::Error for Unfit {}

/// Gives the text of a document that may be parsed.
///
/// # Errors
///
/// [`Unfit`]
pub fn check(bytes: &[u8], comments: Comments) -> Result<&str, Unfit> {
    if bytes.len() > BYTES_MAX {
        return Err(Unfit::Long);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Unfit::Encoding)?;
    // Entra ID begins its metadata with the mark of UTF-8.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut depth, mut elements) = (0_usize, 0_usize);
    // White space before the declaration makes it an instruction.
    let mut rest = behind_declaration(text)?;
    while let Some(at) = rest.find('<') {
        rest = rest.get(at..).ok_or(Unfit::Broken)?;
        if let Some(inside) = rest.strip_prefix("<!--") {
            if comments == Comments::Refused {
                return Err(Unfit::Comment);
            }
            rest = inside.split_once("-->").ok_or(Unfit::Broken)?.1;
        } else if rest.starts_with("<![CDATA[") {
            return Err(Unfit::Section);
        } else if rest.starts_with("<!") {
            return Err(Unfit::DocumentType);
        } else if rest.starts_with("<?") {
            return Err(Unfit::Instruction);
        } else if let Some(inside) = rest.strip_prefix("</") {
            depth = depth.checked_sub(1).ok_or(Unfit::Broken)?;
            rest = inside.split_once('>').ok_or(Unfit::Broken)?.1;
        } else {
            let tag = Tag::read(rest)?;
            elements = elements.saturating_add(1);
            if elements > ELEMENTS_MAX {
                return Err(Unfit::Elements);
            }
            if depth >= DEPTH_MAX {
                return Err(Unfit::Depth);
            }
            if !tag.is_empty {
                depth = depth.saturating_add(1);
            }
            rest = tag.rest;
        }
    }
    if depth == 0 && elements > 0 { Ok(text) } else { Err(Unfit::Broken) }
}

fn behind_declaration(text: &str) -> Result<&str, Unfit> {
    let Some(inside) = text.strip_prefix("<?xml ") else { return Ok(text) };
    let (declaration, rest) = inside.split_once("?>").ok_or(Unfit::Broken)?;
    // A reader that follows another encoding reads another text.
    let lower = declaration.to_ascii_lowercase();
    match lower.split_once("encoding") {
        Some((_, value)) if !value.contains("utf-8") => Err(Unfit::Encoding),
        _ => Ok(rest),
    }
}

/// The beginning of an element.
struct Tag<'t> {
    is_empty: bool,
    rest: &'t str,
}

impl<'t> Tag<'t> {
    fn read(text: &'t str) -> Result<Self, Unfit> {
        let (mut quote, mut attributes, mut before) = (None, 0_usize, b' ');
        for (at, byte) in text.bytes().enumerate().skip(1) {
            match (quote, byte) {
                (Some(open), byte) if byte == open => quote = None,
                (_, b'<') => return Err(Unfit::Broken),
                (Some(_), _) => {}
                (None, b'"' | b'\'') => quote = Some(byte),
                (None, b'=') => attributes = attributes.saturating_add(1),
                (None, b'>') => {
                    let rest = text.get(at.saturating_add(1)..).ok_or(Unfit::Broken)?;
                    return Ok(Self { is_empty: before == b'/', rest });
                }
                (None, _) => {}
            }
            if attributes > ATTRIBUTES_MAX {
                return Err(Unfit::Attributes);
            }
            before = byte;
        }
        Err(Unfit::Broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfit(text: &str) -> Unfit {
        check(text.as_bytes(), Comments::Refused).unwrap_err()
    }

    #[test]
    fn plain_documents_pass() {
        for text in [
            "<a/>",
            "<?xml version=\"1.0\" encoding='UTF-8'?>\n<a b='>' c=\"'/>\"><d/>x &amp; y</a>\n",
            "<a><b/><b></b></a>",
        ] {
            assert_eq!(check(text.as_bytes(), Comments::Refused), Ok(text));
        }
        assert!(check(b"<a><!-- <b> --></a>", Comments::Taken).is_ok());
    }

    #[test]
    fn what_changes_the_meaning_of_a_text_is_refused_by_name() {
        assert_eq!(unfit("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"), Unfit::DocumentType);
        assert_eq!(unfit("<a><!ENTITY b SYSTEM 'file:///etc/passwd'></a>"), Unfit::DocumentType);
        assert_eq!(unfit("<a>ann<!-- -->@example.com</a>"), Unfit::Comment);
        assert_eq!(unfit("<a><![CDATA[x]]></a>"), Unfit::Section);
        assert_eq!(unfit("<a><?x y?></a>"), Unfit::Instruction);
        assert_eq!(unfit(" <?xml version='1.0'?><a/>"), Unfit::Instruction);
        assert_eq!(unfit("<?xml version='1.0' encoding='UTF-16'?><a/>"), Unfit::Encoding);
        assert_eq!(check(b"<a>\xff</a>", Comments::Refused), Err(Unfit::Encoding));
        for broken in ["", "x", "<a>", "</a>", "<a", "<a b='>", "<a></a></a>", "<a <b/>/>", "<a><!-- </a>"] {
            let found = check(broken.as_bytes(), Comments::Taken).unwrap_err();
            assert_eq!(found, Unfit::Broken, "{broken}");
        }
    }

    #[test]
    fn size_is_bounded_before_anything_is_parsed() {
        let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(check(nested(DEPTH_MAX).as_bytes(), Comments::Refused).is_ok());
        assert_eq!(unfit(&nested(DEPTH_MAX + 1)), Unfit::Depth);
        assert_eq!(unfit(&nested(10 * 1024 * 1024 / 7)), Unfit::Long);
        let wide = |count: usize| format!("<a {}/>", "b='' ".repeat(count));
        assert!(check(wide(ATTRIBUTES_MAX).as_bytes(), Comments::Refused).is_ok());
        assert_eq!(unfit(&wide(ATTRIBUTES_MAX + 1)), Unfit::Attributes);
        let many = |count: usize| format!("<a>{}</a>", "<b/>".repeat(count - 1));
        assert!(check(many(ELEMENTS_MAX).as_bytes(), Comments::Refused).is_ok());
        assert_eq!(unfit(&many(ELEMENTS_MAX + 1)), Unfit::Elements);
        let long = format!("<a>{}</a>", "x".repeat(BYTES_MAX - 7));
        assert!(check(long.as_bytes(), Comments::Refused).is_ok());
        assert_eq!(unfit(&format!("{long} ")), Unfit::Long);
    }
}
