//! `forward-internal`: hands the traffic to an internal endpoint of the same account and the same protocol.

use std::sync::Arc;

use adit::endpoint_url::{EndpointUrl, Scheme};

use super::super::Verdict;
use super::super::error::{ACTION_PROTOCOL, CONFIG_VALUE};
use super::super::expression::Fault;
use super::super::fields::Fields;
use super::super::phase::Phase;
use super::super::place::Place;
use super::super::run::Run;
use super::super::template::Template;
use super::{Action, Kind, Outcome};

pub(super) const KIND: Kind =
    Kind { name: "forward-internal", phases: &[Phase::TcpConnect, Phase::HttpRequest], compile };

#[derive(Debug)]
struct ForwardInternal {
    target: Target,
    from: Scheme,
    /// Go on with the next action when the endpoint cannot be reached.
    continues: bool,
}

#[derive(Debug)]
enum Target {
    Fixed(Arc<EndpointUrl>),
    Worked(Template),
}

impl Action for ForwardInternal {
    fn protects(&self) -> bool {
        true
    }

    fn is_terminating(&self) -> bool {
        !self.continues
    }

    fn forwards_to(&self) -> Option<&EndpointUrl> {
        match &self.target {
            Target::Fixed(url) => Some(url),
            Target::Worked(_) => None,
        }
    }

    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        let url = match &self.target {
            Target::Fixed(url) => Arc::clone(url),
            Target::Worked(template) => match self.work_out(template, run) {
                Ok(url) => Arc::new(url),
                Err(fault) => return Outcome::failed("url", &fault),
            },
        };
        Outcome::end(Verdict::Forward { url, on_error: self.continues.then_some(run.behind) })
    }
}

impl ForwardInternal {
    fn work_out(&self, template: &Template, run: &mut Run<'_, '_, '_>) -> Result<EndpointUrl, Fault> {
        let text = run.render(template)?;
        let url = EndpointUrl::parse(&text).map_err(|error| Fault::Invalid(error.to_string()))?;
        check_target(&url, self.from).map_err(Fault::Invalid)?;
        Ok(url)
    }
}

fn compile(fields: &mut Fields<'_>, phase: Phase, place: Place) -> Option<Box<dyn Action>> {
    let url = fields.required_template("url", "https://api.internal");
    let on_error = fields.choice("on_error", &["halt", "continue"]);
    if phase == Phase::TcpConnect && place.scheme().is_http() {
        let message = "forward-internal of an http or https endpoint belongs into on_http_request";
        fields.wrong_action(ACTION_PROTOCOL, message);
        return None;
    }
    let url = url?;
    let target = match url.fixed() {
        None if !place.is_cloud() => {
            // What it becomes could not be held against the credential's rules beforehand.
            let message = "cannot have a ${…} in the policy of an agent: only policies of cloud endpoints may";
            fields.wrong("url", CONFIG_VALUE, message);
            return None;
        }
        None => Target::Worked(url),
        Some(text) => {
            let parsed = EndpointUrl::parse(text).map_err(|error| error.to_string());
            match parsed.and_then(|url| check_target(&url, place.scheme()).map(|()| url)) {
                Ok(url) => Target::Fixed(Arc::new(url)),
                Err(message) => {
                    fields.wrong("url", CONFIG_VALUE, message);
                    return None;
                }
            }
        }
    };
    Some(Box::new(ForwardInternal { target, from: place.scheme(), continues: on_error == Some("continue") }))
}

fn check_target(url: &EndpointUrl, from: Scheme) -> Result<(), String> {
    if !url.is_internal() {
        return Err("must be an internal endpoint: its host has to end in .internal".into());
    }
    if url.is_wildcard() {
        return Err("must name one endpoint: a wildcard is not possible here".into());
    }
    let is_same_protocol = match (from, url.scheme()) {
        (Scheme::Http | Scheme::Https, Scheme::Http | Scheme::Https) => true,
        (Scheme::Tls, Scheme::Tls) | (Scheme::Tcp, Scheme::Tcp) => true,
        (Scheme::Http | Scheme::Https | Scheme::Tls | Scheme::Tcp, _) => false,
    };
    if !is_same_protocol {
        return Err(format!("must be of the same protocol as the endpoint itself, which is {from}"));
    }
    Ok(())
}
