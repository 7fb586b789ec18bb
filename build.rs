//! Finds the time that the agent takes for the time of its build, from the sources alone: the same sources give the same
//! bytes, whenever and wherever they are built. The first of these that there is:
//!
//! 1. `SOURCE_DATE_EPOCH`, as packagers set it,
//! 2. the time of the commit, where the sources are a git repository,
//! 3. the newest date in a heading of `CHANGELOG.md`: of a release, or since when the next one is in the making.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=CHANGELOG.md");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    match build_time() {
        Ok(seconds) => println!("cargo::rustc-env=ADIT_BUILD_TIME={seconds}"),
        Err(error) => println!("cargo::error={error}"),
    }
}

fn build_time() -> Result<u64, String> {
    if let Ok(text) = env::var("SOURCE_DATE_EPOCH") {
        return source_date(&text);
    }
    // Sources that somebody else's repository contains have none of their own, and its commits say nothing of them.
    if Path::new(".git").exists() {
        match commit_time() {
            Some(seconds) => return Ok(seconds),
            None => println!("cargo::warning=git does not tell the commit's time; the date in CHANGELOG.md is taken"),
        }
    }
    let text = fs::read_to_string("CHANGELOG.md").map_err(|error| format!("CHANGELOG.md cannot be read: {error}"))?;
    newest_heading(&text).ok_or_else(|| {
        "no heading of CHANGELOG.md has a date: set SOURCE_DATE_EPOCH to the time of the sources, in seconds since 1970"
            .to_owned()
    })
}

pub(crate) fn source_date(text: &str) -> Result<u64, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= SECONDS_MAX);
    seconds.ok_or_else(|| format!("SOURCE_DATE_EPOCH is {text:?}, and should be seconds since 1970"))
}

fn commit_time() -> Option<u64> {
    // What is built for use follows each commit; what is built for tests need not be built anew after each.
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        for name in ["HEAD", "logs/HEAD"] {
            let path = git(&["rev-parse", "--git-path", name])?;
            if Path::new(&path).exists() {
                println!("cargo::rerun-if-changed={path}");
            }
        }
    }
    git(&["log", "-1", "--no-show-signature", "--format=%ct"])?.parse().ok()
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// The newest date in a heading such as `## 1.2.0 - 2027-03-01` or `## 1.3.0 - unreleased, since 2027-03-02`, at
/// midnight UTC.
pub(crate) fn newest_heading(changelog: &str) -> Option<u64> {
    let headings = changelog.lines().filter(|line| line.starts_with("## "));
    headings.flat_map(str::split_whitespace).filter_map(midnight).max()
}

/// The seconds from 1970 to the beginning of a day written `2027-03-01`.
pub(crate) fn midnight(word: &str) -> Option<u64> {
    let parts: Vec<&str> = word.split('-').collect();
    let [year, month, day] = parts[..] else { return None };
    if (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return None;
    }
    let (year, month, day): (u64, u64, u64) = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let february = if is_leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let months: u64 = (1..month).zip(months).map(|(_, days)| days).sum();
    Some((years + months + day - 1) * 86_400)
}

/// The end of the year 9999.
const SECONDS_MAX: u64 = 253_402_300_799;
