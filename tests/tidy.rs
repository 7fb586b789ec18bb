//! Reads the sources of both programs and fails on what the compiler and clippy do not know to be wrong here: files that
//! have grown too long, files that do not say what they are for, I/O and clocks in the parts that are to be free of them,
//! the system's clock anywhere in the agent but in one file, and work that was left for later.
//!
//! It relies on the sources being formatted: an item that begins in some column ends with a `}` in that column.

use std::fs;
use std::io;
use std::path::Path;

#[test]
fn sources_are_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in SOURCES {
        collect(root, folder, &mut paths).unwrap();
        assert!(paths.iter().any(|path| path.starts_with(folder)), "no sources under {folder}");
    }
    // A part that was moved must not escape the rule for it.
    for part in WITHOUT_IO {
        assert!(paths.iter().any(|path| path.starts_with(part)), "no sources under {part}");
    }
    assert!(paths.iter().any(|path| path == WALL_CLOCK), "no {WALL_CLOCK}");
    let read = |path| fs::read_to_string(root.join(path)).unwrap();
    let findings: Vec<String> = paths.iter().flat_map(|path| findings(path, &read(path))).collect();
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

/// Collects the paths of all Rust files below a folder, relative to the root and with `/` on every system.
fn collect(root: &Path, folder: &str, paths: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let path = format!("{folder}/{}", entry.file_name().display());
        if entry.file_type()?.is_dir() {
            collect(root, &path, paths)?;
        } else if path.ends_with(".rs") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(())
}

/// Everything that is wrong with one file, each with its place.
fn findings(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if !text.starts_with("//! ") {
        findings.push(format!("{path}:1: the file must begin with a `//!` comment that says what it is for"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        for word in UNFINISHED.into_iter().filter(|word| has_word(line, word)) {
            findings.push(format!("{path}:{number}: `{word}`: do it now, or open an issue"));
        }
    }
    if is_test_file(path) {
        return findings;
    }
    let code = without_tests(text);
    if code.len() > LINES_MAX {
        findings.push(format!("{path}: {} lines besides tests, more than {LINES_MAX}: split it", code.len()));
    }
    if WITHOUT_IO.iter().any(|part| path.starts_with(part)) {
        let found = io_words(&code).into_iter();
        findings
            .extend(found.map(|(number, word)| format!("{path}:{number}: `{word}` in a part without I/O and clock")));
    }
    if path.starts_with("src/") && path != WALL_CLOCK {
        for (number, line) in &code {
            let line = without_comment(line);
            let found = WALL_CLOCK_WORDS.into_iter().filter(|word| has_word(line, word));
            findings.extend(found.map(|word| format!("{path}:{number}: `{word}` outside {WALL_CLOCK}")));
        }
    }
    findings
}

/// True for files that only tests are compiled with, by the names that this repository gives them.
fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The lines, with their numbers, that are not under `#[cfg(test)]`.
fn without_tests(text: &str) -> Vec<(usize, &str)> {
    let mut lines = (1..).zip(text.lines());
    let mut kept = Vec::new();
    while let Some((number, line)) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        if line.trim() != "#[cfg(test)]" {
            kept.push((number, line));
            continue;
        }
        let mut rest = lines.by_ref().map(|(_, line)| line).skip_while(|line| line.trim_start().starts_with("#["));
        let Some(first) = rest.next() else {
            break;
        };
        if !first.ends_with([';', '}', ',']) {
            rest.find(|line| {
                line.get(indent..).is_some_and(|tail| tail.starts_with('}')) && line[..indent].trim().is_empty()
            });
        }
    }
    kept
}

/// The names of I/O and clocks in the code, comments apart, with the numbers of their lines.
fn io_words(code: &[(usize, &str)]) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    let mut in_group = false;
    for (number, line) in code {
        let line = without_comment(line);
        found.extend(IO_WORDS.into_iter().filter(|word| has_word(line, word)).map(|word| (*number, word)));
        // `use std::{fs, thread};`, on one line or on several.
        in_group |= line.contains("std::{");
        if in_group {
            found.extend(IO_MODULES.into_iter().filter(|word| has_word(line, word)).map(|word| (*number, word)));
        }
        in_group &= !line.contains(';');
    }
    found
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") {
        return "";
    }
    line.split_once(" // ").map_or(line, |(code, _)| code)
}

/// True when the word stands in the line as a word of its own, not as part of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    let is_name = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(at, _)| {
        let goes_on_before = line[..at].ends_with(is_name);
        let goes_on_after = word.ends_with(is_name) && line[at + word.len()..].starts_with(is_name);
        !goes_on_before && !goes_on_after
    })
}

const SOURCES: [&str; 2] = ["src", "gateway/src"];

/// What takes bytes and a `now` and returns bytes and events, so that it can be tested in virtual time.
const WITHOUT_IO: [&str; 11] = [
    "src/by_number.rs",
    "src/frame/",
    "src/mux/",
    "src/message/",
    "src/session/",
    "src/pool.rs",
    "src/backoff.rs",
    "src/dns_message.rs",
    "src/endpoint_url.rs",
    "src/proxy_handshake/",
    "src/proxy_protocol.rs",
];

/// Names of sockets, files, threads, the event loop, TLS and clocks.
const IO_WORDS: [&str; 8] =
    ["TcpStream", "TcpListener", "UdpSocket", "std::fs", "std::thread", "mio", "rustls", "Instant::now"];

/// The one file of the agent that reads the system's clock. On a router that clock may jump by decades at any moment, so
/// it must not be what anything waits by.
const WALL_CLOCK: &str = "src/wall_time.rs";

/// Names by which Rust and rustls read the system's clock.
const WALL_CLOCK_WORDS: [&str; 3] = ["SystemTime", "UNIX_EPOCH", "UnixTime::now"];

/// The same where they stand in a group after `std::`.
const IO_MODULES: [&str; 2] = ["fs", "thread"];

const UNFINISHED: [&str; 4] = ["todo!", "unimplemented!", "TODO", "FIXME"];

/// Beyond this a file has more than one subject.
const LINES_MAX: usize = 500;

mod self_test {
    //! The rules have to be able to fail.

    use super::*;

    fn count(path: &str, text: &str) -> usize {
        findings(path, text).len()
    }

    #[test]
    fn good_sample_passes() {
        let sample = "//! A sample.\n\nuse std::{fmt, time::Instant};\n\n/// Not for TODOs.\nfn f(now: Instant) {} // no mio here\n";
        assert_eq!(findings("src/mux/sample.rs", sample), Vec::<String>::new());
    }

    #[test]
    fn missing_module_comment_is_found() {
        for text in ["", "use std::fmt;\n", "// Something.\n//! Too late.\n", "\n//! Too late.\n"] {
            assert_eq!(count("src/sample.rs", text), 1, "{text:?}");
        }
    }

    #[test]
    fn unfinished_work_is_found_everywhere() {
        for line in ["todo!()", "unimplemented!(\"x\")", "// TODO: x", "/* FIXME */"] {
            let text = format!("//! A sample.\n{line}\n#[cfg(test)]\nmod tests {{\n    {line}\n}}\n");
            assert_eq!(count("gateway/src/sample.rs", &text), 2, "{line}");
            assert_eq!(count("gateway/src/sample/tests.rs", &text), 2, "{line}");
        }
    }

    #[test]
    fn file_is_too_long_only_above_the_limit_and_without_its_tests() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    // x\n".repeat(LINES_MAX));
        let longest = format!("//! A sample.\n{}{tests}", "// x\n".repeat(LINES_MAX - 1));
        assert_eq!(count("src/sample.rs", &longest), 0);
        assert_eq!(count("src/sample.rs", &format!("{longest}// x\n")), 1);
        assert_eq!(count("src/sample/tests.rs", &format!("{longest}// x\n")), 0);
    }

    #[test]
    fn every_word_of_io_is_found_in_every_part_without_it() {
        for part in WITHOUT_IO {
            for word in IO_WORDS {
                let text = format!("//! A sample.\nuse {word};\n");
                assert_eq!(count(part, &text), 1, "{part} {word}");
                assert_eq!(count("src/net/sample.rs", &text), 0, "{word}");
            }
        }
    }

    #[test]
    fn systems_clock_is_found_wherever_it_may_not_be_read() {
        for word in WALL_CLOCK_WORDS {
            let text = format!("//! A sample.\n    let now = {word};\n");
            for path in ["src/agent/sample.rs", "src/mux/sample.rs", "src/main.rs"] {
                assert_eq!(count(path, &text), 1, "{path} {word}");
            }
            for path in [WALL_CLOCK, "src/agent/tests.rs", "gateway/src/sample.rs"] {
                assert_eq!(count(path, &text), 0, "{path} {word}");
            }
        }
    }

    #[test]
    fn io_is_found_in_whatever_form_it_is_named() {
        let lines = [
            "use std::net::{IpAddr, TcpStream};",
            "use std::{fmt, fs};",
            "use std::{\n    fmt,\n    thread::{self, JoinHandle},\n};",
            "    let now = std::time::Instant::now();",
            "    let text = \"https://\"; std::fs::write(text);",
            "fn f(poll: &mio::Poll) {}",
        ];
        for line in lines {
            assert_eq!(count("src/mux/sample.rs", &format!("//! A sample.\n{line}\n")), 1, "{line}");
        }
        for line in
            ["let premio = 1;", "// As mio does.", "use std::fmt;\nlet fs = thread;", "use std::net::SocketAddr;"]
        {
            assert_eq!(count("src/mux/sample.rs", &format!("//! A sample.\n{line}\n")), 0, "{line}");
        }
    }

    #[test]
    fn only_test_items_are_left_out() {
        let text = "//! A sample.\n#[cfg(test)]\nmod tests;\nfn a() {\n    #[cfg(test)]\n    {\n        use mio;\n    }\n    use rustls;\n}\n#[cfg(test)]\n#[allow(x)]\nmod inner {\n    use mio;\n}\nuse mio;\n";
        let found = findings("src/mux/sample.rs", text);
        let places: Vec<&str> = found.iter().filter_map(|finding| finding.split(':').nth(1)).collect();
        assert_eq!(places, ["9", "16"], "{found:?}");
    }
}
