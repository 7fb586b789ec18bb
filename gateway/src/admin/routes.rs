//! What there is at the admin listener.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde::Serialize;

use super::answer::{Body, json, problem, text, with_type};
use super::caller::{Caller, Refusal};
use super::query::Query;
use super::{Admin, acts, shown_page, tail};
use crate::access_log::Act;
use crate::fleet::report::{self, Filter};
use crate::gateway::Gateway;
use crate::{metrics, status_page};

/// Something to ask for.
struct Route {
    path: &'static str,
    /// It changes something, and is asked for by POST; otherwise by GET.
    changes: bool,
    /// The names of its parameters.
    takes: &'static [&'static str],
    page: Page,
}

#[derive(Clone, Copy)]
enum Page {
    Status,
    Style,
    Script,
    Health,
    Ready,
    Metrics,
    Sites,
    Sessions,
    Endpoints,
    Streams,
    Tail,
    Kick,
    Drain,
    Reload,
}

impl Page {
    /// What it does, if it does something.
    fn act(self) -> Option<Act> {
        match self {
            Self::Kick => Some(Act::Kick),
            Self::Drain => Some(Act::Drain),
            Self::Reload => Some(Act::Reload),
            Self::Status | Self::Style | Self::Script | Self::Health | Self::Ready | Self::Metrics => None,
            Self::Sites | Self::Sessions | Self::Endpoints | Self::Streams | Self::Tail => None,
        }
    }
}

/// Answers one request.
pub(super) async fn answer(admin: &Arc<Admin>, caller: &Caller, request: &Parts) -> Response<Body> {
    let Some(route) = ROUTES.iter().find(|route| route.path == request.uri.path()) else {
        return problem(StatusCode::NOT_FOUND, "there is nothing of this name here");
    };
    let is_allowed = match request.method {
        Method::POST => route.changes,
        Method::GET | Method::HEAD => !route.changes,
        _ => false,
    };
    if !is_allowed {
        return wrong_method(route.changes);
    }
    let asked = request.uri.query().unwrap_or_default();
    if let Err(refusal) = caller.check(&request.headers, route.changes) {
        if let Some(act) = route.page.act() {
            acts::refused(admin, caller, act, asked, refusal);
        }
        let status = match refusal {
            Refusal::ReadOnly | Refusal::Browser => StatusCode::FORBIDDEN,
            Refusal::Host => StatusCode::MISDIRECTED_REQUEST,
        };
        return problem(status, refusal);
    }
    let query = match route.page {
        // It has a query of its own.
        Page::Status => Ok(Query::default()),
        _ => Query::parse(asked, route.takes),
    };
    let query = match query {
        Ok(query) => query,
        Err(error) => return problem(StatusCode::BAD_REQUEST, error),
    };
    match route.page {
        Page::Status => status(admin, asked).await,
        Page::Style => with_type(StatusCode::OK, status_page::STYLE, "text/css; charset=utf-8"),
        Page::Script => with_type(StatusCode::OK, status_page::SCRIPT, "text/javascript; charset=utf-8"),
        Page::Health => text(StatusCode::OK, "ok"),
        Page::Ready => ready(admin),
        Page::Metrics => with_type(StatusCode::OK, admin.gateway.scrape().await, metrics::CONTENT_TYPE),
        Page::Sites => document(admin, query.filter, report::sites).await,
        Page::Sessions => document(admin, query.filter, report::sessions).await,
        Page::Endpoints => document(admin, query.filter, report::endpoints).await,
        Page::Streams => document(admin, query.filter, report::streams).await,
        Page::Tail => tail::follow(admin, caller, query.filter),
        Page::Kick => acts::kick(admin, caller, &query),
        Page::Drain => acts::drain(admin, caller, &query),
        Page::Reload => acts::reload(admin, caller).await,
    }
}

/// The page for people.
async fn status(admin: &Arc<Admin>, query: &str) -> Response<Body> {
    let Some(html) = shown_page::page(admin, query).await else { return unfinished() };
    let mut response = with_type(StatusCode::OK, html, "text/html; charset=utf-8");
    status_page::protect(&mut response);
    response
}

/// A document of what there is, as JSON.
async fn document<T>(admin: &Admin, filter: Filter, report: fn(&Gateway, &Filter) -> T) -> Response<Body>
where
    T: Serialize + 'static,
{
    let answer = admin.gateway.look(move |gateway| json(StatusCode::OK, &report(gateway, &filter)));
    answer.await.unwrap_or_else(unfinished)
}

fn unfinished() -> Response<Body> {
    problem(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be put together")
}

/// Whether agents and visitors are to be sent here.
fn ready(admin: &Admin) -> Response<Body> {
    let obstacles = admin.gateway.obstacles();
    if obstacles.is_empty() {
        return text(StatusCode::OK, "ready");
    }
    text(StatusCode::SERVICE_UNAVAILABLE, obstacles.join("\n"))
}

fn wrong_method(changes: bool) -> Response<Body> {
    let method = if changes { "POST" } else { "GET" };
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, format_args!("ask by {method}"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(method));
    response
}

const ROUTES: [Route; 14] = [
    // For people, in a browser.
    Route { path: "/", changes: false, takes: &[], page: Page::Status },
    Route { path: "/status.css", changes: false, takes: &[], page: Page::Style },
    Route { path: "/status.js", changes: false, takes: &[], page: Page::Script },
    // The process answers.
    Route { path: "/healthz", changes: false, takes: &[], page: Page::Health },
    Route { path: "/readyz", changes: false, takes: &[], page: Page::Ready },
    // In Prometheus' format.
    Route { path: "/metrics", changes: false, takes: &[], page: Page::Metrics },
    Route { path: "/v1/sites", changes: false, takes: WHICH, page: Page::Sites },
    Route { path: "/v1/sessions", changes: false, takes: WHICH, page: Page::Sessions },
    Route { path: "/v1/endpoints", changes: false, takes: WHICH, page: Page::Endpoints },
    Route { path: "/v1/streams", changes: false, takes: WHICH, page: Page::Streams },
    // Lines of JSON, as events come.
    Route { path: "/v1/tail", changes: false, takes: OF_EVENTS, page: Page::Tail },
    Route { path: "/v1/kick", changes: true, takes: OF_KICKS, page: Page::Kick },
    Route { path: "/v1/drain", changes: true, takes: OF_DRAINS, page: Page::Drain },
    Route { path: "/v1/reload", changes: true, takes: &[], page: Page::Reload },
];

const WHICH: &[&str] = &["account", "credential", "instance", "session"];
/// No event names a session: what happens, happens to sites and their endpoints.
const OF_EVENTS: &[&str] = &["account", "credential", "instance"];
const OF_KICKS: &[&str] = &["account", "credential", "instance", "session", "seconds", "all"];
const OF_DRAINS: &[&str] = &["account", "credential", "instance", "session", "all"];

#[cfg(test)]
mod tests;
