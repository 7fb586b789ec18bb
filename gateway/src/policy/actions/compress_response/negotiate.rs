//! What a visitor's `Accept-Encoding` comes to (RFC 9110, 12.5.3).

use super::super::super::Coding;

/// The coding that the visitor likes best; of those that it likes alike, the first of `offered`. `None` when it has named
/// none of them, or would rather have the body as it is.
pub(super) fn choose(accept: &str, offered: &[Coding]) -> Option<Coding> {
    let entries: Vec<(&str, u16)> = accept.split(',').filter_map(entry).collect();
    let weight = |names: &[&str]| {
        let named = |entry: &&(&str, u16)| names.iter().any(|name| entry.0.eq_ignore_ascii_case(name));
        entries.iter().find(named).or_else(|| entries.iter().find(|(name, _)| *name == "*")).map(|(_, weight)| *weight)
    };
    let mut best: Option<(Coding, u16)> = None;
    for coding in offered {
        let found = match coding {
            Coding::Gzip => weight(&["gzip", "x-gzip"]),
            Coding::Deflate => weight(&["deflate"]),
            Coding::Brotli => weight(&["br"]),
        };
        let Some(found) = found.filter(|weight| *weight > 0) else { continue };
        if best.is_none_or(|(_, weight)| found > weight) {
            best = Some((*coding, found));
        }
    }
    let plain = entries.iter().find(|(name, _)| name.eq_ignore_ascii_case("identity")).map_or(0, |(_, weight)| *weight);
    best.filter(|(_, weight)| *weight >= plain).map(|(coding, _)| coding)
}

/// A name and its weight in thousandths. One with a weight that is none is left out.
fn entry(text: &str) -> Option<(&str, u16)> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let Some((key, value)) = parts.next().and_then(|parameter| parameter.split_once('=')) else {
        return Some((name, 1000));
    };
    if !key.trim().eq_ignore_ascii_case("q") {
        return Some((name, 1000));
    }
    thousandths(value.trim()).map(|weight| (name, weight))
}

/// `0`, `0.5`, `1`, `1.000`: at most three digits behind the point.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    if rest.len() > 3 || !rest.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(whole, "0" | "1") {
        return None;
    }
    let weight = format!("{whole}{rest:0<3}").parse().ok()?;
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Coding; 3] = [Coding::Gzip, Coding::Deflate, Coding::Brotli];

    #[test]
    fn visitor_says_what_it_likes() {
        for (accept, chosen) in [
            ("", None),
            ("gzip", Some(Coding::Gzip)),
            ("GZIP", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("br", Some(Coding::Brotli)),
            ("gzip, deflate, br, zstd", Some(Coding::Gzip)),
            ("deflate, gzip;q=0.5", Some(Coding::Deflate)),
            ("gzip;q=1.0, br; q=0.5, *;q=0", Some(Coding::Gzip)),
            ("gzip;q=0.5, br;q=0.51", Some(Coding::Brotli)),
            ("gzip;q=0, *", Some(Coding::Deflate)),
            ("*", Some(Coding::Gzip)),
            ("*;q=0", None),
            ("identity", None),
            ("gzip;q=0.5, identity", None),
            ("gzip;q=0.5, identity;q=0.5", Some(Coding::Gzip)),
            ("identity;q=0", None),
            ("gzip;q=0.000", None),
            ("gzip;q=2", None),
            ("gzip;q=1.001", None),
            ("gzip;q=0.0001", None),
            ("gzip;q=-1", None),
            ("gzip;level=9", Some(Coding::Gzip)),
            ("compress", None),
            ("zstd;q=1, ,;q=1,br;q=0.1", Some(Coding::Brotli)),
        ] {
            assert_eq!(choose(accept, &ALL), chosen, "{accept:?}");
        }
    }

    #[test]
    fn only_what_is_offered_is_chosen_and_in_its_order() {
        assert_eq!(choose("gzip, br", &[Coding::Brotli, Coding::Gzip]), Some(Coding::Brotli));
        assert_eq!(choose("gzip", &[Coding::Brotli]), None);
        assert_eq!(choose("gzip", &[]), None);
    }
}
