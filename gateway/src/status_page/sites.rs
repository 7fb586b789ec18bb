//! The table of sites.

use std::collections::HashMap;

use maud::{Markup, html};

use super::words::{bytes, span};
use crate::fleet::report::{EndpointState, Site, SiteState};

/// The rows, those that want attention first. `shown_max` bounds them.
pub(super) fn rows(sites: &[Site], wanted: &str, shown_max: usize) -> (Markup, usize) {
    let mut fitting: Vec<_> = sites.iter().filter(|site| fits(site, wanted)).collect();
    // What went away last comes first.
    fitting.sort_by_key(|site| (rank(site.state), if site.state == SiteState::Offline { site.seconds } else { 0 }));
    let count = fitting.len();
    if count > shown_max {
        fitting = fairly(fitting, shown_max / 2);
    }
    let rows = html! {
        @for site in fitting.into_iter().take(shown_max) { (row(site)) }
    };
    (rows, count)
}

/// Puts what a credential has beyond `each_max` behind all others: agents name their instances themselves.
fn fairly(sites: Vec<&Site>, each_max: usize) -> Vec<&Site> {
    let mut counts: HashMap<_, usize> = HashMap::new();
    let (mut first, last): (Vec<_>, Vec<_>) = sites.into_iter().partition(|site| {
        let count = counts.entry((&site.account, &site.credential)).or_default();
        *count += 1;
        *count <= each_max
    });
    first.extend(last);
    first
}

fn row(site: &Site) -> Markup {
    let held = site.endpoints.iter().filter(|endpoint| endpoint.state == EndpointState::HeldBack).count();
    html! {
        tr {
            th scope="row" { (name(site)) }
            td { span class=(format!("state {}", site.state.as_str())) { (site.state.as_str()) } }
            td.number { time datetime=(site.since) title=(site.since) { (span(site.seconds)) } }
            td.long {
                @if let Some(end) = &site.last_end {
                    (end.reason)
                    @if site.state == SiteState::Online { " " small { "(" (span(end.seconds)) " ago)" } }
                }
            }
            td.wide { (site.address.as_deref().unwrap_or_default()) }
            td.wide { (site.agent) @if !site.target.is_empty() { " " small { (site.target) } } }
            td.wide.number { @if let Some(heard) = site.last_heard_ms { (span(heard / 1000)) " ago" } }
            td.wide.number { @if let Some(time) = site.round_trip_ms { (format!("{time:.1} ms")) } }
            td.number { (site.endpoints.len()) @if held > 0 { " " span class="state held" { (held) " held back" } } }
            td.wide.number { (site.counts.streams) }
            td.wide.number { (bytes(site.counts.bytes_to_agent)) " / " (bytes(site.counts.bytes_from_agent)) }
        }
    }
}

pub(super) fn name(site: &Site) -> String {
    match &site.instance {
        Some(instance) => format!("{} / {} / {instance}", site.account, site.credential),
        None => format!("{} / {}", site.account, site.credential),
    }
}

fn rank(state: SiteState) -> u8 {
    match state {
        SiteState::Offline => 0,
        SiteState::Online => 1,
        SiteState::Unseen => 2,
    }
}

fn fits(site: &Site, wanted: &str) -> bool {
    let address = site.address.as_deref().unwrap_or_default();
    let text = format!("{} {} {address} {} {}", name(site), site.state.as_str(), site.agent, site.target);
    text.to_lowercase().contains(wanted)
}
