//! `log`: writes values into the gateway's log.

use super::super::error::CONFIG;
use super::super::expression::Value;
use super::super::fields::Fields;
use super::super::mask::Mask;
use super::super::own::Lent;
use super::super::phase::Phase;
use super::super::place::Place;
use super::super::run::Run;
use super::super::template::Template;
use super::{Action, EVERYWHERE, Kind, Outcome};

pub(super) const KIND: Kind = Kind { name: "log", phases: EVERYWHERE, compile };

#[derive(Debug)]
struct Log {
    /// Hides secrets, in whatever way they come into a value.
    mask: Mask,
    metadata: Vec<(Box<str>, Template)>,
}

impl Action for Log {
    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        let mut values = serde_json::Map::new();
        for (name, template) in &self.metadata {
            // A line of the log is no reason to refuse a request.
            let text = run.render(template).unwrap_or_else(|fault| format!("({fault})"));
            let text: String = self.mask.hide(&text).chars().take(VALUE_CHARS_MAX).collect();
            values.insert(name.to_string(), text.into());
        }
        let values = serde_json::Value::Object(values);
        run.set_result("log", Value::map([("metadata", Value::from_json(&values))]));
        if run.is_preview {
            return Outcome::NEXT;
        }
        run.trace_note(|| format!("logs {}", values));
        let connection = run.connection();
        let (visitor, endpoint) = (connection.peer, connection.endpoint);
        tracing::info!(%endpoint, %visitor, metadata = %values, "logged by policy");
        Outcome::NEXT
    }
}

fn compile(fields: &mut Fields<'_>, _phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    let metadata = fields.scalar_templates("metadata", 1..=ENTRIES_MAX, CONFIG);
    let metadata = metadata.into_iter().map(|(name, template)| (name.into(), template)).collect();
    let mask = match fields.lent() {
        Lent::All(own) => own.mask().clone(),
        Lent::Nothing | Lent::Unknown => Mask::default(),
    };
    Some(Box::new(Log { mask, metadata }))
}

/// Values of one line.
const ENTRIES_MAX: usize = 50;
/// A visitor decides what some of the values are; the line must stay one that can be read.
const VALUE_CHARS_MAX: usize = 1024;
