//! No document and no request makes a policy panic, loop or allocate without bound: composed from the grammar, and run.

#![allow(clippy::unwrap_used)]
#![expect(
    unreachable_pub,
    dead_code,
    reason = "the same files are modules of the fuzz crate, where the targets need them"
)]

#[path = "../../fuzz/src/input.rs"]
mod input;
#[path = "../../fuzz/src/policy.rs"]
mod policy;
#[path = "../../fuzz/src/policy_grammar.rs"]
mod policy_grammar;
#[path = "../../fuzz/src/policy_rules.rs"]
mod policy_rules;

use std::alloc::System;
use std::sync::Mutex;

use adit::endpoint_url::EndpointUrl;
use adit_gateway::policy::{Place, Policy};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use policy_grammar::Composer;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;
/// Held by the test that measures.
static MEASURING: Mutex<()> = Mutex::new(());

/// Bytes that `work` allocates, those that it gives back among them.
fn allocated(work: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    change.bytes_allocated + usize::try_from(change.bytes_reallocated).unwrap_or_default()
}

fn endpoint() -> EndpointUrl {
    EndpointUrl::parse("https://app.example.test").unwrap()
}

/// Runs a policy with this one condition and this one text, if they are accepted. Tells whether they are.
fn run(condition: &str, text: &str) -> bool {
    let document = json!({
        "on_http_request": [
            {"expressions": [condition], "actions": [{"type": "add-headers", "config": {"headers": {"x-a": "b"}}}]},
            {"actions": [{"type": "custom-response", "config": {"body": text}}]},
        ],
    });
    let url = endpoint();
    let Ok(compiled) = Policy::from_value(&document, Place::agent(&url)) else { return false };
    policy::run(&compiled, &url, http::Request::new(()));
    true
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..1500)
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

#[test]
fn composed_document_runs_over_any_request_within_its_memory() {
    let _alone = MEASURING.lock().unwrap();
    runner(300)
        .run(&bytes(), |bytes| {
            let used = allocated(|| policy_rules::policy_rules(&bytes));
            prop_assert!(used <= RUNS * RUN_BYTES_MAX, "{used} bytes");
            Ok(())
        })
        .unwrap();
}

#[test]
fn composed_expression_and_text_run_within_their_memory() {
    let _alone = MEASURING.lock().unwrap();
    let accepted = std::cell::Cell::new(0);
    runner(3000)
        .run(&(bytes(), bytes()), |(condition, text)| {
            let (condition, text) = (Composer::new(&condition).condition(), Composer::new(&text).template());
            let mut is_accepted = false;
            let used = allocated(|| is_accepted = run(&condition, &text));
            accepted.set(accepted.get() + usize::from(is_accepted));
            prop_assert!(used <= RUN_BYTES_MAX, "{used} bytes: {condition} {text}");
            Ok(())
        })
        .unwrap();
    // A grammar that composes what is refused would test nothing.
    assert!(accepted.get() > 300, "only {} of 3000 are accepted", accepted.get());
}

/// What doubles, multiplies and nests, as far as anybody has thought of it.
#[test]
fn bombs_end_at_the_bound() {
    let _alone = MEASURING.lock().unwrap();
    let doubled =
        |seed: &str, step: &str| (0..20).fold(seed.to_owned(), |text, _| step.replace("IT", &format!("({text})")));
    let bombs = [
        "size(lists.range(100000).map(a, lists.range(100000).map(b, a * b)).flatten()) > 0".to_owned(),
        "lists.range(1000).map(a, 'x'.replace('', 'yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy')).join(' ').size() > 0".to_owned(),
        "[1, 2, 3].map(a, [1, 2, 3].map(b, [1, 2, 3].map(c, lists.range(10000)))).flatten().flatten().size() > 0"
            .to_owned(),
        format!("size({}) > 0", doubled("'xxxxxxxxxxxxxxxx'", "[IT].map(a, a + a)[0]")),
        format!("size({}) > 0", doubled("[1]", "[IT].map(a, a + a)[0]")),
        format!("size(json.encode({})) > 0", doubled("[1]", "[IT].map(a, [a, a])[0]")),
        format!("{} == {}", doubled("[1]", "[IT].map(a, [a, a])[0]"), doubled("[1]", "[IT].map(a, [a, a])[0]")),
        "lists.range(200000).map(a, string(a)).sort().distinct().size() > 0".to_owned(),
        "'%s%s%s%s'.format([lists.range(40000), lists.range(40000), lists.range(40000), lists.range(40000)]) != ''"
            .to_owned(),
        "lists.range(2147483647).size() > 0".to_owned(),
        "lists.range(9223372036854775807).size() > 0".to_owned(),
        "'%.2147483647f'.format([1.0]) != ''".to_owned(),
        "lists.range(10000).map(a, req.headers).size() > 0".to_owned(),
    ];
    for bomb in &bombs {
        let used = allocated(|| {
            run(bomb, "");
            run("true", &format!("${{{bomb}}}"));
        });
        assert!(used <= 2 * RUN_BYTES_MAX, "{used} bytes: {bomb}");
    }
}

/// What one policy may allocate while it is compiled and run, whatever is in it: the steps of an evaluation (200,000) at a
/// hundred bytes each, and texts.
const RUN_BYTES_MAX: usize = 64 << 20;
/// So often a document is compiled in `policy_rules`, as a tree and as a text.
const RUNS: usize = 12;
