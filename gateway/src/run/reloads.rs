//! Reading the configuration file again for whoever asks. Everything else goes on meanwhile: its disk may not answer.

use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinError;

use super::pending::Pending;
use super::{DONE, shown};
use crate::access_log::Act;
use crate::acme::Acme;
use crate::certificate_watch::CertificateWatch;
use crate::config::{Config, Warning};
use crate::gateway::Gateway;
use crate::listen::Serving;
use crate::log::LogControl;

/// Warnings, or mistakes for which everything stays as it is.
pub(super) type Outcome = Result<Vec<String>, Vec<String>>;

/// Who asks for a reload.
#[derive(Debug)]
pub(super) enum Asker {
    /// By SIGHUP.
    Signal,
    /// At the admin listener.
    Admin { by: String, done: oneshot::Sender<Outcome> },
}

/// What a configuration is put in force with.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) gateway: &'a Arc<Gateway>,
    pub(super) serving: &'a Serving,
    pub(super) acme: &'a Acme,
    pub(super) log: &'a LogControl,
}

/// One reading of the file.
#[derive(Debug)]
pub(super) struct Reading {
    /// What was in force when it began.
    before: Arc<Config>,
    /// The configuration and the files of its certificates as they were read, or what is wrong with it.
    loaded: Result<(Config, Vec<Warning>, CertificateWatch), Vec<String>>,
}

/// The reload that is under way, and those who ask.
#[derive(Debug)]
pub(super) struct Reloads {
    reading: Pending<Reading>,
    /// Whom this reading is for.
    askers: Vec<Asker>,
    /// Those who came after it had begun: what they have written may not be in it. The next one is for all of them.
    later: Vec<Asker>,
    /// How often it has begun anew.
    repeats: usize,
}

impl Reloads {
    pub(super) const fn none() -> Self {
        Self { reading: Pending::none(), askers: Vec::new(), later: Vec::new(), repeats: 0 }
    }

    /// Begins a reload, or lets it wait for the end of the one that is under way.
    pub(super) fn ask(&mut self, asker: Asker, gateway: &Gateway) {
        if !self.reading.is_under_way() {
            self.askers.push(asker);
            return self.read(gateway.config());
        }
        match asker {
            // One for all signals that came meanwhile.
            Asker::Signal if self.later.iter().any(|other| matches!(other, Asker::Signal)) => {}
            Asker::Admin { done, .. } if self.later.len() >= LATER_MAX => {
                // Whoever asked may have gone.
                let _ = done.send(Err(vec!["a reload is under way, and too many others wait for the next".to_owned()]));
            }
            asker => self.later.push(asker),
        }
    }

    /// Whom the reading is for, and who waits for the next.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.askers.len(), self.later.len())
    }

    /// Waits for the end of a reading. Nothing is lost when it is dropped before that.
    pub(super) async fn done(&mut self) -> Result<Reading, JoinError> {
        self.reading.done().await
    }

    /// Puts in force what was read; gives the files of its certificates. With any mistake in it, everything stays as it is.
    pub(super) fn take(&mut self, done: Result<Reading, JoinError>, parts: Parts<'_>) -> Option<CertificateWatch> {
        let name = shown(parts.gateway);
        let loaded = match done {
            // A credential was revoked meanwhile, perhaps: what was read before must not bring it back.
            Ok(Reading { before, loaded: Ok(_) })
                if !Arc::ptr_eq(&before, &parts.gateway.config()) && self.repeats < REPEATS_MAX =>
            {
                self.repeats += 1;
                self.read(parts.gateway.config());
                return None;
            }
            Ok(reading) => reading.loaded,
            Err(error) => Err(vec![format!("{name} was not read: {error}")]),
        };
        self.repeats = 0;
        let (outcome, watch) = match loaded {
            Ok((new, warnings, watch)) => (Ok(put_in_force(parts, new, warnings)), Some(watch)),
            Err(problems) => {
                problems.iter().for_each(|problem| tracing::error!("{problem}"));
                tracing::error!("{name} is not put in force, what was in force stays");
                (Err(problems), None)
            }
        };
        self.tell(&outcome, parts.gateway);
        self.askers = mem::take(&mut self.later);
        if !self.askers.is_empty() {
            self.read(parts.gateway.config());
        }
        watch
    }

    fn read(&mut self, before: Arc<Config>) {
        let file: PathBuf = before.file.clone();
        self.reading.begin(move || {
            let loaded = Config::load(&file).map(|(config, warnings)| {
                let watch = CertificateWatch::new(&config.certificates);
                (config, warnings, watch)
            });
            let loaded = loaded.map_err(|errors| errors.problems().iter().map(ToString::to_string).collect());
            Reading { before, loaded }
        });
    }

    /// Tells those who asked, and the audit log.
    fn tell(&mut self, outcome: &Outcome, gateway: &Gateway) {
        let told = if outcome.is_ok() { DONE } else { "refused: see the log" };
        for asker in self.askers.drain(..) {
            let by = match &asker {
                Asker::Signal => "SIGHUP",
                Asker::Admin { by, .. } => by,
            };
            gateway.ledger().audit(Act::Reload, &by, &shown(gateway), told);
            if let Asker::Admin { done, .. } = asker {
                // Whoever asked may have gone.
                let _ = done.send(outcome.clone());
            }
        }
    }
}

/// Puts a configuration in force, and gives what there is to say about it.
fn put_in_force(parts: Parts<'_>, mut new: Config, warnings: Vec<Warning>) -> Vec<String> {
    let Parts { gateway, serving, acme, log } = parts;
    let old = gateway.config();
    let mut told: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    for warning in &told {
        tracing::warn!("{warning}");
    }
    for key in Config::changes_needing_restart(&old, &new) {
        tracing::warn!(key, "this change takes effect at a restart only");
        told.push(format!("{key}: this change takes effect at a restart only"));
    }
    new.keep_from(&old);
    log.set_level(new.log.level);
    gateway.reload(new);
    serving.reload(&gateway.config());
    if let Err(error) = acme.follow(gateway.config().acme.as_ref()) {
        tracing::error!("{error}; the certificates of before go on being kept");
        told.push(format!("{error}; the certificates of before go on being kept"));
    }
    tracing::info!("{} is in force", old.file.display());
    told
}

/// Who may wait for the next reload: many times those who administer a gateway.
pub(super) const LATER_MAX: usize = 64;
/// How often a reading begins anew because credentials have changed. Beyond that, the watch of the credentials puts
/// right what is old in it within a second.
const REPEATS_MAX: usize = 3;
