//! The tables of `POLICY.md` say what there is.

use std::collections::BTreeSet;

use super::super::{functions, variables};

const POLICY_MD: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/POLICY.md"));

/// The cells of the table below a heading.
fn table(heading: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let (_, section) = POLICY_MD.split_once(heading).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
}

#[test]
fn table_of_variables_has_every_one_with_its_phases() {
    let told: Vec<(&str, &str)> = table("\n## Variables\n").map(|row| (row[0].trim_matches('`'), row[1])).collect();
    let known: BTreeSet<(&str, &str)> = variables::names().collect();
    assert_eq!(told.iter().copied().collect::<BTreeSet<_>>(), known);
    assert_eq!(told.len(), known.len(), "one of them is there twice");
    assert!(table("\n## Variables\n").all(|row| row.len() == 3 && !row[2].is_empty()));
}

#[test]
fn table_of_functions_has_every_one() {
    let told: BTreeSet<&str> = table("\n## Functions\n")
        .flat_map(|row| row[1].split('`').skip(1).step_by(2).collect::<Vec<_>>())
        .filter(|name| name.chars().all(|character| character.is_ascii_alphanumeric() || "._".contains(character)))
        .filter(|name| !name.ends_with('.'))
        .collect();
    // These two are compiled apart from the others.
    let known: BTreeSet<&str> = functions::names().chain(["secrets.get", "sortBy"]).collect();
    assert_eq!(told, known);
}
