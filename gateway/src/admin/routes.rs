//! What there is at the admin listener.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};

use super::Admin;
use super::answer::{Body, problem, text, with_type};
use super::caller::{Caller, Refusal};
use crate::metrics;

/// Something to ask for.
struct Route {
    path: &'static str,
    /// It changes something, and is asked for by POST; otherwise by GET.
    changes: bool,
    page: Page,
}

#[derive(Clone, Copy)]
enum Page {
    Health,
    Ready,
    Metrics,
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
    if let Err(refusal) = caller.check(&request.headers, route.changes) {
        let status = match refusal {
            Refusal::ReadOnly | Refusal::Browser => StatusCode::FORBIDDEN,
            Refusal::Host => StatusCode::MISDIRECTED_REQUEST,
        };
        return problem(status, refusal);
    }
    match route.page {
        Page::Health => text(StatusCode::OK, "ok"),
        Page::Ready => ready(admin),
        Page::Metrics => with_type(StatusCode::OK, admin.gateway.scrape().await, metrics::CONTENT_TYPE),
    }
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

const ROUTES: [Route; 3] = [
    // The process answers.
    Route { path: "/healthz", changes: false, page: Page::Health },
    Route { path: "/readyz", changes: false, page: Page::Ready },
    // In Prometheus' format.
    Route { path: "/metrics", changes: false, page: Page::Metrics },
];
