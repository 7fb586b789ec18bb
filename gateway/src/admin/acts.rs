//! What the admin listener does on behalf of whoever asks: sessions end, the configuration is read anew, the gateway ends.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use adit::backoff::RETRY_AFTER_MAX;

use super::Admin;
use super::answer::{Body, json, problem};
use super::caller::{Caller, Refusal};
use super::query::Query;
use crate::access_log::Act;
use crate::admit::shown;
use crate::fleet::report::Filter;

/// What only the process as a whole can do.
#[derive(Debug)]
pub enum Order {
    /// To read the configuration anew, as at SIGHUP.
    Reload {
        /// Who asks for it.
        by: String,
        /// Takes what came of it: warnings, or mistakes for which everything stays as it is.
        done: oneshot::Sender<Result<Vec<String>, Vec<String>>>,
    },
    /// To drain and end, as at SIGTERM.
    End {
        /// Who asks for it.
        by: String,
    },
}

/// What makes a refusal the same as one before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RefusedAct {
    act: Act,
    refusal: Refusal,
    by: String,
    /// Cut, as it is written down.
    subject: String,
}

/// Sessions that were told to end.
#[derive(Debug, Serialize)]
struct Ended {
    sessions: Vec<u64>,
}

/// No session is meant: the list is what tells this apart from a route that there is not.
#[derive(Debug, Serialize)]
struct Nobody {
    error: &'static str,
    sessions: Vec<u64>,
}

/// The whole gateway is about to end.
#[derive(Debug, Serialize)]
struct Draining {
    draining: bool,
    seconds_max: u64,
}

/// A configuration is in force.
#[derive(Debug, Serialize)]
struct Reloaded {
    warnings: Vec<String>,
}

/// A configuration is not in force.
#[derive(Debug, Serialize)]
struct NotReloaded {
    error: &'static str,
    problems: Vec<String>,
}

/// Ends sessions at once.
pub(super) fn kick(admin: &Admin, caller: &Caller, query: &Query) -> Response<Body> {
    let away = match query.seconds.map(Duration::from_secs) {
        Some(away) if away > RETRY_AFTER_MAX => {
            let max = RETRY_AFTER_MAX.as_secs();
            return problem(StatusCode::BAD_REQUEST, format_args!("seconds: agents stay away for at most {max}"));
        }
        away => away,
    };
    if query.filter.is_empty() && !query.all {
        return unnamed();
    }
    let sessions = admin.gateway.kick(&query.filter, away);
    told(admin, caller, Act::Kick, &query.filter, sessions)
}

/// Ends sessions as soon as no visitor uses them, or all of the gateway.
pub(super) fn drain(admin: &Admin, caller: &Caller, query: &Query) -> Response<Body> {
    if query.filter.is_empty() && query.all {
        let order = Order::End { by: caller.to_string() };
        return match admin.orders.try_send(order) {
            Ok(()) => {
                let seconds_max = admin.gateway.config().limits.drain_timeout.as_secs();
                json(StatusCode::ACCEPTED, &Draining { draining: true, seconds_max })
            }
            Err(error) => busy(&error),
        };
    }
    if query.filter.is_empty() {
        return unnamed();
    }
    let Ok(place) = Arc::clone(&admin.drains).try_acquire_owned() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "too many drains are under way");
    };
    let sessions = admin.gateway.matching(&query.filter);
    let (gateway, draining) = (Arc::clone(&admin.gateway), sessions.clone());
    tokio::spawn(async move {
        gateway.drain_sessions(draining).await;
        drop(place);
    });
    told(admin, caller, Act::Drain, &query.filter, sessions.iter().map(|session| session.0).collect())
}

/// Reads the configuration anew, and says what is wrong with it.
pub(super) async fn reload(admin: &Admin, caller: &Caller) -> Response<Body> {
    let (done, outcome) = oneshot::channel();
    if let Err(error) = admin.orders.try_send(Order::Reload { by: caller.to_string(), done }) {
        return busy(&error);
    }
    match outcome.await {
        Ok(Ok(warnings)) => json(StatusCode::OK, &Reloaded { warnings }),
        Ok(Err(problems)) => {
            let error = "the configuration is not put in force, what was in force stays";
            json(StatusCode::UNPROCESSABLE_ENTITY, &NotReloaded { error, problems })
        }
        Err(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "the gateway is about to end"),
    }
}

/// Writes down that somebody may not do that; `asked` is the query. The same of the same one is written down now and then, with how
/// often it was in between: a page in a browser may ask in a loop.
pub(super) fn refused(admin: &Admin, caller: &Caller, act: Act, asked: &str, refusal: Refusal) {
    let subject = shown(asked);
    let refused = RefusedAct { act, refusal, by: caller.identity(), subject: subject.clone() };
    let heard = {
        let mut refusals = admin.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.hear(refused, Instant::now().into_std())
    };
    let Some(untold) = heard else { return };
    let outcome = format!("refused: {refusal}{}", untold.shown());
    admin.gateway.ledger().audit(act, caller, &subject, &outcome);
}

fn told(admin: &Admin, caller: &Caller, act: Act, filter: &Filter, sessions: Vec<u64>) -> Response<Body> {
    if sessions.is_empty() {
        return json(StatusCode::NOT_FOUND, &Nobody { error: "no session is meant by that", sessions });
    }
    let outcome = format!("{} sessions", sessions.len());
    admin.gateway.ledger().audit(act, caller, &filter.to_string(), &outcome);
    json(StatusCode::OK, &Ended { sessions })
}

fn unnamed() -> Response<Body> {
    problem(StatusCode::BAD_REQUEST, "say which: account, credential, instance, session, or all=true")
}

fn busy(error: &mpsc::error::TrySendError<Order>) -> Response<Body> {
    problem(
        StatusCode::SERVICE_UNAVAILABLE,
        match error {
            mpsc::error::TrySendError::Full(_) => "others have asked for that and wait",
            mpsc::error::TrySendError::Closed(_) => "the gateway is about to end",
        },
    )
}
