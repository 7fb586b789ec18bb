//! The dashboard shows metrics that there are.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use adit::endpoint_url::EndpointUrl;
use adit_gateway::metrics::{Metrics, Moment};
use adit_gateway::policy::Decided;
use serde_json::Value;

/// Every name in the expressions of a dashboard that begins as ours do.
fn names(dashboard: &Value) -> BTreeSet<String> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let words = targets.flat_map(|target| {
        let text = target["expr"].as_str().unwrap();
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
    });
    words.filter(|word| word.starts_with("adit_") || word.starts_with("process_")).map(str::to_owned).collect()
}

#[test]
fn dashboard_names_only_metrics_that_there_are() {
    let text = include_str!("../../packaging/grafana/adit-gateway.json");
    let names = names(&serde_json::from_str(text).unwrap());
    assert!(names.len() > 20, "{names:?}");
    let metrics = Metrics::new();
    // These have no sample before the first of their kind.
    for counters in [&metrics.log_ins_refused, &metrics.binds_refused, &metrics.failures] {
        counters.one(["3200"]);
    }
    for is_own in [true, false] {
        let decided = Decided { phase: "on_http_request", place: 0, name: None, verdict: "deny" };
        metrics.verdicts.counter(is_own, &EndpointUrl::parse("https://a.example.com").unwrap(), &decided).add(1);
    }
    let text = metrics.text(&Moment::default());
    // What the machine hides has no sample either.
    let hidden = ["adit_memory_limit_bytes", "process_max_fds"];
    for name in names.iter().filter(|name| !hidden.contains(&name.as_str())) {
        let is_there = text.lines().any(|line| {
            let rest = line.strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{'))
        });
        assert!(is_there, "{name}");
    }
}
