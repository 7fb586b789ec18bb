//! The page as HTML. Everything in it is escaped by the template; what it loads comes from the same place.

use std::sync::Arc;

use maud::{DOCTYPE, Markup, html};

use super::history::Sample;
use super::sparkline::sparkline;
use super::{sites, words};
use crate::events::{Event, Losses, rfc3339};
use crate::fleet::report::{Endpoint, EndpointKind, EndpointState, Endpoints, SiteState, Sites};

/// What the page shows.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) sites: Sites,
    pub(super) endpoints: Endpoints,
    /// Oldest first.
    pub(super) events: Vec<Arc<Event>>,
    pub(super) samples: Vec<Sample>,
    pub(super) losses: Losses,
    pub(super) waiting: usize,
    /// What to look for, in lower case.
    pub(super) wanted: String,
}

/// The whole page.
pub(super) fn page(facts: &Facts) -> Markup {
    let (site_rows, site_count) = sites::rows(&facts.sites.sites, &facts.wanted, ROWS_MAX);
    let (endpoint_rows, endpoint_count) = endpoint_rows(&facts.endpoints.endpoints, &facts.wanted);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "adit gateway" }
                link rel="stylesheet" href="status.css";
                script src="status.js" defer {}
            }
            body {
                a.skip href="#sites" { "Skip to the sites" }
                header {
                    h1 { "adit gateway" }
                    p { "As of " time #now datetime=(facts.sites.now) { (facts.sites.now) } ", version "
                        (env!("CARGO_PKG_VERSION")) "." }
                    p #live-state {}
                }
                main {
                    section {
                        h2 #health { "Health" }
                        p role="status" #summary { (summary(facts)) }
                        div.pictures #pictures { (pictures(&facts.samples)) }
                    }
                    form role="search" method="get" action="." {
                        label for="q" { "Show only what has these words" }
                        input #q name="q" type="search" value=(facts.wanted) autocomplete="off";
                        button { "Show" }
                    }
                    section {
                        h2 #sites { "Sites" }
                        p #sites-count { (count(site_count, facts.sites.sites.len())) }
                        div.scroll role="region" tabindex="0" aria-labelledby="sites" {
                            table {
                                thead { tr {
                                    th scope="col" { "Site" } th scope="col" { "State" } th scope="col" { "For" }
                                    th scope="col" { "Last disconnect" } th.wide scope="col" { "Address" }
                                    th.wide scope="col" { "Agent" } th.wide scope="col" { "Heard" }
                                    th.wide scope="col" { "Round trip" } th scope="col" { "Endpoints" }
                                    th.wide scope="col" { "Streams" } th.wide scope="col" { "To / from agent" }
                                } }
                                tbody #site-rows { (site_rows) }
                            }
                        }
                    }
                    section {
                        h2 #endpoints { "Endpoints" }
                        p #endpoints-count { (count(endpoint_count, facts.endpoints.endpoints.len())) }
                        div.scroll role="region" tabindex="0" aria-labelledby="endpoints" {
                            table {
                                thead { tr {
                                    th scope="col" { "Endpoint" } th scope="col" { "State" } th scope="col" { "Why" }
                                    th scope="col" { "Account" } th.wide scope="col" { "Served by" }
                                    th.wide scope="col" { "Leads to" }
                                } }
                                tbody #endpoint-rows { (endpoint_rows) }
                            }
                        }
                    }
                    section {
                        h2 #events { "Recent events" }
                        div.scroll role="region" tabindex="0" aria-labelledby="events" {
                            table {
                                thead { tr { th scope="col" { "Time" } th scope="col" { "Event" } th scope="col" { "What" } } }
                                tbody #event-rows { (event_rows(&facts.events)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn summary(facts: &Facts) -> Markup {
    let of = |state| facts.sites.sites.iter().filter(|site| site.state == state).count();
    let (online, offline) = (of(SiteState::Online), of(SiteState::Offline));
    let held = facts.endpoints.endpoints.iter().filter(|one| one.state == EndpointState::HeldBack).count();
    let Losses { dropped, webhook, followers } = facts.losses;
    html! {
        @if facts.sites.draining { strong { "The gateway is draining. " } }
        "Sites: " strong { (online) } " online, " strong { (offline) } " offline; "
        (facts.endpoints.endpoints.len()) " endpoints"
        @if held > 0 { ", " strong { (held) " held back" } }
        "."
        @if facts.waiting > 0 { " " (facts.waiting) " events wait for the webhook." }
        @if webhook > 0 { " " (webhook) " events were lost on the way to the webhook." }
        @if followers > 0 { " Those who follow along were too slow for " (followers) " events." }
        @if dropped > 0 { " " (dropped) " events were not told." }
    }
}

fn pictures(samples: &[Sample]) -> Markup {
    let of = |value: fn(&Sample) -> u64| samples.iter().map(value).collect::<Vec<_>>();
    html! {
        (sparkline("Sites online", &of(|sample| sample.sites), |count| count.to_string()))
        (sparkline("Streams", &of(|sample| sample.streams), |count| count.to_string()))
        (sparkline("To agents", &of(|sample| sample.to_agents), words::rate))
        (sparkline("From agents", &of(|sample| sample.from_agents), words::rate))
    }
}

fn endpoint_rows(endpoints: &[Endpoint], wanted: &str) -> (Markup, usize) {
    let served = |one: &Endpoint| {
        let parts = [one.credential.as_deref(), one.instance.as_deref()];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" / ")
    };
    let fits = |one: &&Endpoint| {
        let text = format!("{} {} {} {}", one.url, one.account, served(one), one.state.as_str());
        text.to_lowercase().contains(wanted)
    };
    let mut fitting: Vec<_> = endpoints.iter().filter(fits).collect();
    fitting.sort_by_key(|one| matches!(one.state, EndpointState::Online | EndpointState::Pooled));
    let count = fitting.len();
    let rows = html! {
        @for one in fitting.into_iter().take(ROWS_MAX) {
            tr {
                th scope="row" { (one.url) }
                td { span class=(format!("state {}", class(one.state))) { (one.state.as_str()) } }
                td.long { (one.why.as_deref().unwrap_or_default()) }
                td { (one.account) }
                td.wide { @if one.kind == EndpointKind::Agent { (served(one)) } @else { "the gateway itself" } }
                td.wide { (one.forwards_to) }
            }
        }
    };
    (rows, count)
}

fn class(state: EndpointState) -> &'static str {
    match state {
        EndpointState::Online | EndpointState::Pooled => "online",
        EndpointState::HeldBack => "held",
        EndpointState::Waiting | EndpointState::Kept => "offline",
    }
}

fn event_rows(events: &[Arc<Event>]) -> Markup {
    html! {
        @for event in events.iter().rev() {
            tr {
                td { time datetime=(rfc3339(event.unix_ms)) { (rfc3339(event.unix_ms)) } }
                td { span class=(if event.kind.is_trouble() { "state offline" } else { "state online" }) { (event.kind.word()) } }
                td.long { (event.text) }
            }
        }
        @if events.is_empty() { tr { td colspan="3" { "Nothing has happened since the start." } } }
    }
}

fn count(fitting: usize, all: usize) -> String {
    match fitting.min(ROWS_MAX) {
        shown if shown < fitting => format!("The first {shown} of {fitting}; search to see the others."),
        _ if fitting < all => format!("{fitting} of {all}."),
        _ => format!("{all}."),
    }
}

/// Four times the fleet that this is built for. Beyond it a page is slow to read for a browser as well.
const ROWS_MAX: usize = 2000;
