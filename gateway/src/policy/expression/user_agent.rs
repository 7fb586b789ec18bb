//! What a `User-Agent` says of a visitor's program, as far as such lines can be relied upon: anybody writes what they like.

/// The parts of a `User-Agent`; empty texts for what it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Agent<'h> {
    pub(super) name: &'h str,
    pub(super) version: &'h str,
    pub(super) os: &'static str,
    pub(super) os_version: String,
    pub(super) device: &'h str,
    pub(super) kind: Kind,
    pub(super) url: &'h str,
}

/// What it runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Unknown,
    Mobile,
    Tablet,
    Desktop,
    /// A program that goes through pages by itself.
    Bot,
}

impl<'h> Agent<'h> {
    /// Reads the first part of a line; what is behind it does not count.
    pub(super) fn parse(line: &'h str) -> Self {
        let end = (0..=LINE_BYTES_MAX.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
        let line = line.get(..end.unwrap_or_default()).unwrap_or_default();
        let (products, notes) = parts(line);
        let (os, os_version, device) = system(&notes);
        let url = notes.iter().find_map(|note| {
            let address = note.strip_prefix('+').unwrap_or(note);
            (address.starts_with("http://") || address.starts_with("https://")).then_some(address)
        });
        let bot = bot_of(&products, &notes);
        let (name, version) = bot.or_else(|| browser(&products, &notes)).unwrap_or_default();
        let is_mobile = products.iter().any(|(name, _)| *name == "Mobile") || notes.contains(&"Mobile");
        let is_tablet = device == "iPad" || notes.iter().any(|note| note.contains("Tablet"));
        let kind = match os {
            _ if bot.is_some() => Kind::Bot,
            "Android" if is_tablet || !is_mobile => Kind::Tablet,
            "iOS" if is_tablet => Kind::Tablet,
            "Android" | "iOS" => Kind::Mobile,
            "" => Kind::Unknown,
            _ if is_tablet => Kind::Tablet,
            _ => Kind::Desktop,
        };
        Self { name, version, os, os_version, device, kind, url: url.unwrap_or_default() }
    }
}

type Product<'h> = (&'h str, &'h str);

/// Products with their versions, and what stands in parentheses.
fn parts(line: &str) -> (Vec<Product<'_>>, Vec<&str>) {
    let (mut products, mut notes) = (Vec::new(), Vec::new());
    let mut rest = line;
    while !rest.is_empty() {
        let (plain, after) = rest.split_once('(').unwrap_or((rest, ""));
        products.extend(plain.split_ascii_whitespace().map(|word| word.split_once('/').unwrap_or((word, ""))));
        let (inside, after) = after.split_once(')').unwrap_or((after, ""));
        notes.extend(inside.split([';', ',']).map(str::trim).filter(|note| !note.is_empty()));
        rest = after;
    }
    (products, notes)
}

/// The program that goes through pages by itself, if it is one.
fn bot_of<'h>(products: &[Product<'h>], notes: &[&'h str]) -> Option<Product<'h>> {
    let named = notes.iter().map(|note| note.split_once('/').unwrap_or((note, "")));
    products.iter().copied().chain(named).find(|(name, _)| {
        let name = name.to_ascii_lowercase();
        !name.contains(' ') && BOTS.iter().any(|bot| name.contains(bot))
    })
}

fn browser<'h>(products: &[Product<'h>], notes: &[&'h str]) -> Option<Product<'h>> {
    let find = |sought: &str| products.iter().find(|(name, _)| *name == sought).copied();
    for (token, name) in BROWSERS {
        if let Some((_, version)) = find(token) {
            return Some((name, version));
        }
    }
    if let (Some((_, version)), Some(_)) = (find("Version"), find("Safari")) {
        return Some(("Safari", version));
    }
    if let Some(version) = notes.iter().find_map(|note| note.strip_prefix("MSIE ")) {
        return Some(("Internet Explorer", version));
    }
    let is_trident = notes.iter().any(|note| note.starts_with("Trident/"));
    if let Some(version) = notes.iter().find_map(|note| note.strip_prefix("rv:")).filter(|_| is_trident) {
        return Some(("Internet Explorer", version));
    }
    // Programs that are no browsers begin with what they are.
    products.iter().find(|(name, _)| *name != "Mozilla").or(products.first()).copied()
}

/// The system, its version, and the device.
fn system<'h>(notes: &[&'h str]) -> (&'static str, String, &'h str) {
    let after = |prefix: &str| notes.iter().find_map(|note| note.strip_prefix(prefix));
    if let Some(device) = notes.first().filter(|note| ["iPhone", "iPad", "iPod touch", "iPod"].contains(note)) {
        let version = after("CPU iPhone OS ").or_else(|| after("CPU OS ")).unwrap_or_default();
        return ("iOS", first_word(version).replace('_', "."), device);
    }
    if let Some(version) = after("Android") {
        let is_model =
            |note: &&&str| !["Linux", "U", "K", "wv", "Mobile", "Tablet"].contains(*note) && !note.contains(':');
        let place = notes.iter().position(|note| note.starts_with("Android")).unwrap_or_default();
        let device = notes.iter().skip(place + 1).find(is_model).copied().unwrap_or_default();
        let device = device.split_once(" Build").map_or(device, |(device, _)| device);
        return ("Android", first_word(version.trim()).to_owned(), device);
    }
    if let Some(version) = after("Windows NT ") {
        return ("Windows", first_word(version).to_owned(), "");
    }
    if let Some(version) = after("Intel Mac OS X ").or_else(|| after("PPC Mac OS X ")) {
        return ("macOS", first_word(version).replace('_', "."), "");
    }
    if let Some(version) = after("CrOS ") {
        return ("ChromeOS", version.rsplit(' ').next().unwrap_or_default().to_owned(), "");
    }
    for (word, os) in [("Linux", "Linux"), ("FreeBSD", "FreeBSD"), ("Macintosh", "macOS"), ("Windows", "Windows")] {
        if notes.iter().any(|note| note.starts_with(word)) {
            return (os, String::new(), "");
        }
    }
    ("", String::new(), "")
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

/// Browsers by their product: those first that also call themselves by the names of others.
const BROWSERS: &[(&str, &str)] = &[
    ("Edg", "Edge"),
    ("EdgA", "Edge"),
    ("EdgiOS", "Edge"),
    ("Edge", "Edge"),
    ("OPR", "Opera"),
    ("Opera", "Opera"),
    ("SamsungBrowser", "Samsung Browser"),
    ("Vivaldi", "Vivaldi"),
    ("YaBrowser", "Yandex Browser"),
    ("FxiOS", "Firefox"),
    ("Firefox", "Firefox"),
    ("CriOS", "Chrome"),
    ("HeadlessChrome", "Headless Chrome"),
    ("Chrome", "Chrome"),
];
const BOTS: [&str; 4] = ["bot", "spider", "crawler", "slurp"];
/// Real ones have some 200 bytes.
const LINE_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_programs_are_known() {
        for (line, expected) in [
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36 Edg/120.0.2210.91",
                ("Edge", "120.0.2210.91", "Windows", "10.0", "", Kind::Desktop),
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Safari/605.1.15",
                ("Safari", "17.1", "macOS", "10.15.7", "", Kind::Desktop),
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 16_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/114.0 Mobile/15E148 Safari/604.1",
                ("Chrome", "114.0", "iOS", "16.5", "iPhone", Kind::Mobile),
            ),
            (
                "Mozilla/5.0 (iPad; CPU OS 12_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1 Mobile/15E148 Safari/604.1",
                ("Safari", "12.1", "iOS", "12.2", "iPad", Kind::Tablet),
            ),
            (
                "Mozilla/5.0 (Linux; Android 13; Pixel 7 Build/TQ1A) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/112.0.0.0 Mobile Safari/537.36",
                ("Chrome", "112.0.0.0", "Android", "13", "Pixel 7", Kind::Mobile),
            ),
            (
                "Mozilla/5.0 (Linux; Android 9; SM-T510) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/80.0 Safari/537.36",
                ("Chrome", "80.0", "Android", "9", "SM-T510", Kind::Tablet),
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0",
                ("Firefox", "121.0", "Linux", "", "", Kind::Desktop),
            ),
            (
                "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko",
                ("Internet Explorer", "11.0", "Windows", "6.1", "", Kind::Desktop),
            ),
            (
                "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
                ("Googlebot", "2.1", "", "", "", Kind::Bot),
            ),
            ("curl/8.5.0", ("curl", "8.5.0", "", "", "", Kind::Unknown)),
            ("", ("", "", "", "", "", Kind::Unknown)),
            ("(((", ("", "", "", "", "", Kind::Unknown)),
        ] {
            let Agent { name, version, os, os_version, device, kind, .. } = Agent::parse(line);
            assert_eq!((name, version, os, os_version.as_str(), device, kind), expected, "{line}");
        }
        let line = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
        assert_eq!(Agent::parse(line).url, "http://www.google.com/bot.html");
    }

    #[test]
    fn long_line_is_read_to_its_bound_only() {
        let line = format!("{}é/1 Firefox/1", "é".repeat(LINE_BYTES_MAX));
        assert_ne!(Agent::parse(&line).name, "Firefox");
    }
}
