//! `restrict-ips`: lets through by the visitor's own address, never by what a header says of it.

use http::StatusCode;
use ipnet::IpNet;

use super::super::Refused;
use super::super::error::{CIDR, CIDRS_TOO_MANY, CONFIG, IP_REFUSED};
use super::super::expression::{Fault, Value};
use super::super::fields::Fields;
use super::super::networks::{NETWORKS_MAX, NetworkSet, parse_network};
use super::super::phase::Phase;
use super::super::place::Place;
use super::super::run::{Run, error_code};
use super::super::template::Template;
use super::{Action, EVERYWHERE, Kind, Outcome};

pub(super) const KIND: Kind = Kind { name: "restrict-ips", phases: EVERYWHERE, compile };

#[derive(Debug)]
struct RestrictIps {
    enforce: bool,
    allow: List,
    deny: List,
}

/// Networks, most of them known when the policy is loaded.
#[derive(Debug, Default)]
struct List {
    fixed: NetworkSet,
    worked: Vec<Template>,
}

impl List {
    fn is_empty(&self) -> bool {
        self.fixed.is_empty() && self.worked.is_empty()
    }

    /// The network of the list that the visitor is in.
    fn find(&self, run: &mut Run<'_, '_, '_>) -> Result<Option<IpNet>, Fault> {
        let address = run.connection().peer.ip();
        if let Some(network) = self.fixed.find(address) {
            return Ok(Some(network));
        }
        for template in &self.worked {
            let text = run.render(template)?;
            let network = parse_network(&text).ok_or_else(|| Fault::Invalid(format!("{text:?} is not a network")))?;
            if network.contains(&address.to_canonical()) {
                return Ok(Some(network));
            }
        }
        Ok(None)
    }
}

impl RestrictIps {
    /// Whether the visitor may pass, and the network that says so.
    fn judge(&self, run: &mut Run<'_, '_, '_>) -> Result<(bool, Option<IpNet>), Fault> {
        if let Some(network) = self.deny.find(run)? {
            return Ok((false, Some(network)));
        }
        // Without any list of whom to allow, all are but those who are denied.
        if self.allow.is_empty() {
            return Ok((true, None));
        }
        let network = self.allow.find(run)?;
        Ok((network.is_some(), network))
    }
}

impl Action for RestrictIps {
    fn protects(&self) -> bool {
        self.enforce
    }

    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        let (is_allowed, network) = match self.judge(run) {
            Ok(judged) => judged,
            Err(fault) => return Outcome::failed("allow or deny", &fault),
        };
        let mut result = vec![("action", Value::text(if is_allowed { "allow" } else { "deny" }))];
        let network = network.map(|network| network.to_string()).unwrap_or_default();
        result.push(("matched_cidr", Value::text(&network)));
        if !is_allowed {
            let code = Value::text(&error_code(IP_REFUSED));
            result.push(("error", Value::map([("code", code), ("message", Value::text(MESSAGE))])));
        }
        run.set_result("restrict_ips", Value::map(result));
        if is_allowed || !self.enforce {
            return Outcome::NEXT;
        }
        Outcome::refuse(Refused::new(StatusCode::FORBIDDEN, IP_REFUSED, MESSAGE))
    }
}

fn compile(fields: &mut Fields<'_>, _phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    let enforce = fields.bool("enforce", true);
    let allow = read(fields, "allow");
    let deny = read(fields, "deny");
    if fields.has_items("ip_policies") {
        let message = "names policies that are kept elsewhere, and this gateway keeps none: write their networks into \
                       allow and deny";
        fields.wrong("ip_policies", super::super::error::IP_POLICY, message);
    }
    if allow.is_empty() && deny.is_empty() {
        fields.wrong_action(CONFIG, "needs networks in allow, in deny, or in both");
    }
    Some(Box::new(RestrictIps { enforce, allow, deny }))
}

fn read(fields: &mut Fields<'_>, name: &'static str) -> List {
    let mut list = List::default();
    for (index, template) in fields.template_list(name, 0..=NETWORKS_MAX, CIDRS_TOO_MANY) {
        match template.fixed().map(|text| (parse_network(text), text)) {
            None if list.worked.len() >= WORKED_MAX => {
                fields.wrong_item(
                    name,
                    index,
                    CIDRS_TOO_MANY,
                    format!("at most {WORKED_MAX} of them may have a ${{…}}"),
                );
            }
            None => list.worked.push(template),
            Some((Some(network), _)) => list.fixed.insert(network),
            Some((None, _)) => {
                let message = "is not an address or a network such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32";
                fields.wrong_item(name, index, CIDR, message);
            }
        }
    }
    list
}

const MESSAGE: &str = "The owner of this endpoint lets only certain addresses through, and yours is not among them.";

/// Networks that are worked out for each request.
const WORKED_MAX: usize = 100;
