//! Another configuration while the agent runs: what stays the same is not touched.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use mio::Waker;

use super::Agent;
use super::capacity::Capacity;
use super::connect::Connection;
use super::load::Loaded;
use super::upstreams::Difference;
use crate::background::{self, Mailbox};
use crate::config::ConfigErrors;
use crate::log_format;
use crate::net::outgoing::Outgoing;
use crate::net::resolve::NameServers;
use crate::session::Resumption;

/// Reads the file again, away from the loop: a file system may block.
pub(super) struct Reloader {
    path: PathBuf,
    waker: Arc<Waker>,
    reading: Option<Mailbox<Reading>>,
    /// Another one was asked for meanwhile, and the file may have changed since it was read.
    again: bool,
    /// Readings so far. Their number makes each line about one a line of its own, which no folding hides.
    count: u64,
}

type Reading = Result<Loaded, ConfigErrors>;

impl Reloader {
    pub(super) fn new(path: PathBuf, waker: Arc<Waker>) -> Self {
        Self { path, waker, reading: None, again: false, count: 0 }
    }

    /// Begins to read. One that hangs is waited for: threads must not pile up behind it.
    fn begin(&mut self) -> io::Result<()> {
        if self.reading.is_some() {
            log::info!("the configuration is being read already; once more after that");
            self.again = true;
            return Ok(());
        }
        let mailbox = Mailbox::new();
        let to_loop = mailbox.clone();
        let (path, waker) = (self.path.clone(), Arc::clone(&self.waker));
        let read = move || {
            to_loop.put(Loaded::from_file(&path));
            // The loop that wants to know may have ended.
            let _ = waker.wake();
        };
        background::spawn("reload", STACK_BYTES, Box::new(read))?;
        self.reading = Some(mailbox);
        Ok(())
    }

    /// What was read, once.
    fn poll(&mut self) -> Option<Reading> {
        let mailbox = self.reading.as_ref()?;
        // In this order: what a thread puts in last is not lost.
        let is_over = mailbox.is_last();
        let reading = mailbox.take();
        if is_over || reading.is_some() {
            self.reading = None;
        }
        reading
    }
}

impl Agent {
    pub(super) fn begin_reload(&mut self) {
        let Some(reloader) = &mut self.reloader else {
            log::warn!("told to read the configuration again; there is no file of it");
            return;
        };
        if let Err(error) = reloader.begin() {
            log::warn!("told to read {} again: no thread for it: {error}", reloader.path.display());
        }
    }

    /// Puts in force what was read.
    pub(super) fn drive_reload(&mut self) {
        let Some(reloader) = &mut self.reloader else { return };
        let Some(reading) = reloader.poll() else { return };
        if std::mem::take(&mut reloader.again) {
            return self.begin_reload();
        }
        reloader.count += 1;
        let number = reloader.count;
        match reading {
            Ok(_) if self.drain_until.is_some() => log::info!("the configuration was read again; draining goes on"),
            Ok(loaded) => self.put_in_force(loaded, number),
            Err(errors) => refuse(&errors, number),
        }
    }

    fn put_in_force(&mut self, loaded: Loaded, number: u64) {
        let Loaded { config, warnings, connect_tls, endpoints_tls } = loaded;
        let difference = self.streams.upstreams.change(&config.endpoints, endpoints_tls);
        for warning in warnings {
            log::warn!("{warning}");
        }
        let old = std::mem::replace(&mut self.config, config);
        let agent = self.config.agent.clone();
        log_format::change(agent.log.level, agent.log.format);
        let is_new_session = agent.needs_other_session(&old.agent);
        self.connect_tls = connect_tls;
        if agent.resources != old.agent.resources {
            self.capacity = Capacity::new(&agent.resources);
            self.capacity.log();
            self.streams.set_idle_timeout(agent.resources.idle_timeout);
        }
        if agent.egress != old.agent.egress {
            self.outgoing = Outgoing::of(&agent.egress);
            self.resolver.change(NameServers::of(&agent.egress));
        }
        self.status.change(agent.status_socket.as_ref(), self.now);
        self.observed.forget(&difference.removed);
        self.answer_status();
        log::info!("the configuration was read again (reload {number}): {}", described(&difference, is_new_session));
        self.streams.retire(&difference.removed, self.now + agent.drain_timeout, self.now);
        if is_new_session {
            let is_elsewhere = agent.connect != old.agent.connect || agent.authtoken != old.agent.authtoken;
            self.begin_anew(is_elsewhere);
        } else if let Connection::Linked(linked) = &mut self.connection {
            let endpoints = self.streams.upstreams.specs();
            linked.link.session.change_endpoints(endpoints, self.now);
        } else if let Connection::Waiting { until } = &mut self.connection {
            // Whoever mended something does not want to wait for the next attempt.
            *until = self.now;
        }
    }

    /// Ends the session, or the wait for one, and connects with the values of now.
    fn begin_anew(&mut self, is_elsewhere: bool) {
        self.hang_up("the agent's configuration has changed");
        if is_elsewhere {
            // Another gateway or account knows nothing of the identities of this one.
            self.resumption = Resumption::default();
        }
        self.backoff.reset();
        self.connection = Connection::Waiting { until: self.now };
    }
}

/// Every error, as far as the log bears it; the first one in the line that is never folded.
fn refuse(errors: &ConfigErrors, number: u64) {
    let (first, others) = match errors.problems() {
        [first, others @ ..] => (first.to_string(), others),
        [] => (String::new(), &[][..]),
    };
    log::warn!("the configuration is refused (reload {number}), the one before stays in force: {first}");
    for problem in others.iter().take(PROBLEMS_LOGGED_MAX) {
        log::warn!("also wrong: {problem}");
    }
    if let Some(more) = others.len().checked_sub(PROBLEMS_LOGGED_MAX).filter(|more| *more > 0) {
        log::warn!("... and {more} more mistakes: `adit check` says them all");
    }
}

fn described(difference: &Difference, is_new_session: bool) -> String {
    let mut parts = Vec::new();
    let lists =
        [("added", &difference.added), ("removed", &difference.removed_names), ("changed", &difference.changed)];
    for (what, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
        parts.push(format!("endpoints {what}: {}", names.join(", ")));
    }
    if parts.is_empty() {
        parts.push("the endpoints are the same".to_owned());
    }
    if is_new_session {
        parts.push("a new session begins, because keys of agent have changed".to_owned());
    }
    parts.join("; ")
}

/// As deep as JSON may be nested, with room for parsing certificates.
const STACK_BYTES: usize = 512 * 1024;

/// Lines about one refused file: fewer than a log without a session takes in a minute.
const PROBLEMS_LOGGED_MAX: usize = 20;
