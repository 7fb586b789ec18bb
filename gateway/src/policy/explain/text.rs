//! An explanation for people.

use std::fmt;

use super::{ActionTrace, Explanation, PhaseTrace, RuleTrace};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.request {
            Some(request) => writeln!(f, "{} {} from {} to {}", request.method, request.uri, self.peer, self.endpoint)?,
            None => writeln!(f, "a connection from {} to {}", self.peer, self.endpoint)?,
        }
        if let Some(certificate) = &self.client_certificate {
            writeln!(f, "certificate of the client: {certificate}")?;
        }
        self.phases.iter().try_for_each(|phase| write_phase(f, phase))?;
        let decision = &self.decision;
        write!(f, "decision: {}", decision.text)?;
        if let Some(reason) = &decision.reason {
            write!(f, "\n  reason for the log: {reason}")?;
        }
        for (name, value) in &decision.headers {
            write!(f, "\n  {name}: {value}")?;
        }
        match &decision.body {
            Some(body) => write!(f, "\n  body: {body}"),
            None => Ok(()),
        }
    }
}

fn write_phase(f: &mut fmt::Formatter<'_>, phase: &PhaseTrace) -> fmt::Result {
    if phase.rules.is_empty() && phase.rules_not_reached == 0 {
        return writeln!(f, "{}: no rules", phase.phase);
    }
    match phase.not_run {
        Some(why) => return writeln!(f, "{}: not run, {why}", phase.phase),
        None => writeln!(f, "{}", phase.phase)?,
    }
    phase.rules.iter().try_for_each(|rule| write_rule(f, rule))?;
    match phase.rules_not_reached {
        0 => Ok(()),
        1 => writeln!(f, "  1 more rule is not come to"),
        more => writeln!(f, "  {more} more rules are not come to"),
    }
}

fn write_rule(f: &mut fmt::Formatter<'_>, rule: &RuleTrace) -> fmt::Result {
    write!(f, "  rule {}", rule.rule)?;
    if let Some(name) = &rule.name {
        write!(f, " {name:?}")?;
    }
    writeln!(f, ": {}", if rule.applies { "applies" } else { "does not apply" })?;
    for expression in &rule.expressions {
        let reason = expression.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        writeln!(f, "    {}: {}{reason}", expression.result, expression.expression)?;
        for value in &expression.values {
            writeln!(f, "      {} = {}", value.name, value.value)?;
        }
    }
    if rule.expressions_not_evaluated > 0 {
        writeln!(f, "    {} more, not evaluated", rule.expressions_not_evaluated)?;
    }
    rule.actions.iter().try_for_each(|action| write_action(f, action))
}

fn write_action(f: &mut fmt::Formatter<'_>, action: &ActionTrace) -> fmt::Result {
    write!(f, "    {}: ", action.kind)?;
    match (&action.not_run, &action.decision) {
        (Some(why), _) => writeln!(f, "not run: {why}; taken to let the traffic pass (run it with --online)")?,
        (None, Some(decision)) => writeln!(f, "{}", decision.text)?,
        (None, None) => writeln!(f, "goes on")?,
    }
    for note in &action.notes {
        writeln!(f, "      {note}")?;
    }
    for change in &action.changes {
        match (&change.before, &change.after) {
            (Some(before), Some(after)) => writeln!(f, "      {}: {before} -> {after}", change.what)?,
            (None, Some(after)) => writeln!(f, "      {} = {after}", change.what)?,
            (Some(before), None) => writeln!(f, "      {}: {before} -> (gone)", change.what)?,
            (None, None) => {}
        }
    }
    Ok(())
}
