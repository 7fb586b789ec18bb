//! `forward-internal`: hands the traffic to an internal endpoint of the same account and the same protocol.

use std::sync::Arc;

use adit::endpoint_url::{EndpointUrl, Scheme};

use super::super::Verdict;
use super::super::document::Place;
use super::super::error::{ACTION_PROTOCOL, CONFIG, CONFIG_VALUE};
use super::super::fields::Fields;
use super::super::phase::{Phase, Step, Subject};
use super::{Action, Kind};

pub(super) const KIND: Kind =
    Kind { name: "forward-internal", phases: &[Phase::OnTcpConnect, Phase::OnHttpRequest], compile };

#[derive(Debug)]
struct ForwardInternal {
    url: Arc<EndpointUrl>,
}

impl Action for ForwardInternal {
    fn is_terminating(&self) -> bool {
        true
    }

    fn forwards_to(&self) -> Option<&EndpointUrl> {
        Some(&self.url)
    }

    fn run(&self, _subject: &mut Subject<'_, '_>) -> Step {
        Step::End(Verdict::Forward(Arc::clone(&self.url)))
    }
}

fn compile(fields: &mut Fields<'_>, phase: Phase, place: Place) -> Option<Box<dyn Action>> {
    let url = fields.required_text("url", "https://api.internal");
    let on_error = fields.text("on_error");
    if phase == Phase::OnTcpConnect && place.scheme().is_http() {
        let message = "forward-internal of an http or https endpoint belongs into on_http_request";
        fields.wrong_action(ACTION_PROTOCOL, message);
        return None;
    }
    match on_error {
        None | Some("halt") => {}
        Some("continue") => fields.wrong("on_error", CONFIG, "is not supported yet by this gateway: only halt is"),
        Some(_) => fields.wrong("on_error", CONFIG_VALUE, "must be halt"),
    }
    let url = match EndpointUrl::parse(url?) {
        Ok(url) => url,
        Err(error) => {
            fields.wrong("url", CONFIG_VALUE, error.to_string());
            return None;
        }
    };
    if let Err(message) = check_target(&url, place.scheme()) {
        fields.wrong("url", CONFIG_VALUE, message);
        return None;
    }
    Some(Box::new(ForwardInternal { url: Arc::new(url) }))
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
