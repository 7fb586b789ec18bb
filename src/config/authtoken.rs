//! Where the token comes from: the environment, the file, or a file of its own. Never the command line, which every
//! process of the machine can read.

use std::path::Path;

use super::AUTHTOKEN_VARIABLES;
use super::file::TextFile;
use super::problem::SECRET_SHOWN;
use super::reader::Object;
use crate::message::Secret;

/// Finds the token; without one there is a problem in the reader.
pub(super) fn read(agent: &mut Object<'_>, file: &TextFile, env: &dyn Fn(&str) -> Option<String>) -> Option<Secret> {
    let written = agent.secret("authtoken");
    let elsewhere = agent.string("authtoken_file");
    if written.is_some() && elsewhere.is_some() {
        agent.problem("authtoken_file", "authtoken and authtoken_file exclude each other: keep one of them");
    }
    if written.is_some() && file.is_read_by_others() {
        agent.warn("authtoken", "others than the owner can read this file and the token in it: chmod 600");
    }
    if let Some((name, token)) = from_environment(env) {
        let fault = match checked(&token) {
            Ok(token) => return Some(token),
            Err(fault) => fault,
        };
        agent.reader().problem_in("environment", name, Some(SECRET_SHOWN.to_owned()), fault);
        return None;
    }
    if let Some(token) = written {
        let fault = match checked(&token) {
            Ok(token) => return Some(token),
            Err(fault) => fault,
        };
        agent.secret_problem("authtoken", fault);
        return None;
    }
    if let Some(path) = elsewhere {
        return from_file(agent, &path);
    }
    if !agent.has("authtoken") && !agent.has("authtoken_file") {
        agent.missing("authtoken", "set it here, name a file in authtoken_file, or set ADIT_AUTHTOKEN");
    }
    None
}

fn from_environment(env: &dyn Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    AUTHTOKEN_VARIABLES.into_iter().find_map(|name| Some((name, env(name).filter(|token| !token.is_empty())?)))
}

fn from_file(agent: &Object<'_>, path: &str) -> Option<Secret> {
    let file = match TextFile::read(Path::new(path), TOKEN_FILE_BYTES_MAX) {
        Ok(file) => file,
        Err(error) => {
            agent.problem("authtoken_file", error);
            return None;
        }
    };
    if file.is_read_by_others() {
        agent.reader().warn_in(path, "", "others than the owner can read the token in this file: chmod 600");
    }
    match checked(file.text().trim()) {
        Ok(token) => Some(token),
        Err(fault) => {
            agent.problem("authtoken_file", format!("the file's text {fault}"));
            None
        }
    }
}

/// A token is one word of printable ASCII.
fn checked(token: &str) -> Result<Secret, &'static str> {
    if token.is_empty() {
        return Err("must not be empty");
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err("must be at most 1024 bytes long");
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must be one word of printable ASCII");
    }
    Ok(Secret::new(token))
}

/// ngrok's tokens have 49 characters and the gateway's fewer than 100; this leaves room for other issuers.
const TOKEN_BYTES_MAX: usize = 1024;

/// The token and the blank lines around it.
const TOKEN_FILE_BYTES_MAX: usize = 4096;
