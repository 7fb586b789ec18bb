//! Functions that look into the request and the response.

use std::net::IpAddr;

use ::http::HeaderMap;

use super::super::super::networks::parse_network;
use super::super::cookies::{request_cookies, response_cookies};
use super::super::evaluate::{Evaluation, Fault};
use super::super::operators;
use super::super::value::{TEXT_BYTES_PER_STEP, Value};
use super::super::variables::{header_values, query_pairs};
use super::{Form, Function, Needs, argument, text_argument};

pub(super) const TABLE: &[Function] = &[
    of_request("getReqHeader", |arguments, evaluation| {
        Ok(header_values(request(evaluation)?, &text_argument(arguments, 0)?.to_ascii_lowercase()))
    }),
    of_request("hasReqHeader", |arguments, evaluation| {
        Ok(Value::Bool(request(evaluation)?.contains_key(text_argument(arguments, 0)?.to_ascii_lowercase())))
    }),
    of_request("getReqCookie", |arguments, evaluation| {
        let name = text_argument(arguments, 0)?;
        cookie(request_cookies(request(evaluation)?).into_iter(), name)
    }),
    of_request("hasReqCookie", |arguments, evaluation| {
        let name = text_argument(arguments, 0)?;
        Ok(Value::Bool(request_cookies(request(evaluation)?).iter().any(|(known, _)| known == name)))
    }),
    of_request("getQueryParam", |arguments, evaluation| {
        let name = text_argument(arguments, 0)?;
        let values = query_pairs(query(evaluation)?).filter(|(known, _)| known == name);
        Ok(Value::list(values.map(|(_, value)| Value::text(&value))))
    }),
    of_request("hasQueryParam", |arguments, evaluation| {
        let name = text_argument(arguments, 0)?;
        Ok(Value::Bool(query_pairs(query(evaluation)?).any(|(known, _)| known == name)))
    }),
    of_response("getResHeader", |arguments, evaluation| {
        Ok(header_values(response(evaluation)?, &text_argument(arguments, 0)?.to_ascii_lowercase()))
    }),
    of_response("hasResHeader", |arguments, evaluation| {
        Ok(Value::Bool(response(evaluation)?.contains_key(text_argument(arguments, 0)?.to_ascii_lowercase())))
    }),
    of_response("getResCookie", |arguments, evaluation| {
        let name = text_argument(arguments, 0)?;
        cookie(response_cookies(response(evaluation)?).into_iter(), name)
    }),
    of_response("hasResCookie", |arguments, evaluation| {
        let name = text_argument(arguments, 0)?;
        Ok(Value::Bool(response_cookies(response(evaluation)?).iter().any(|(known, _)| known == name)))
    }),
    Function::global("inCidrRange", 2..=2, |arguments, _| {
        let address = operators::address(argument(arguments, 0))?;
        is_in(address, argument(arguments, 1)).map(Value::Bool)
    }),
    Function::global("inCidrRanges", 2..=2, |arguments, evaluation| {
        let address = operators::address(argument(arguments, 0))?;
        let Value::List(networks) = argument(arguments, 1) else {
            return Err(Fault::Type("inCidrRanges takes a list of networks".into()));
        };
        evaluation.budget.spend(networks.len())?;
        for network in networks.iter() {
            if is_in(address, network)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }),
    Function::method("isPrivateIp", 1..=1, |arguments, _| {
        let address = text_argument(arguments, 0)?.parse::<IpAddr>().map(|address| address.to_canonical());
        Ok(Value::Bool(matches!(address, Ok(IpAddr::V4(address)) if address.is_private())))
    }),
];

const fn of_request(name: &'static str, run: super::Run) -> Function {
    Function { name, form: Form::Global, arguments: 1..=1, needs: Needs::Request, run }
}

const fn of_response(name: &'static str, run: super::Run) -> Function {
    Function { name, form: Form::Global, arguments: 1..=1, needs: Needs::Response, run }
}

fn request<'f>(evaluation: &mut Evaluation<'_, 'f>) -> Result<&'f HeaderMap, Fault> {
    let request = evaluation.facts.request.ok_or_else(|| Fault::Missing("request".into()))?;
    evaluation.budget.spend(request.headers.len())?;
    Ok(request.headers)
}

fn response<'f>(evaluation: &mut Evaluation<'_, 'f>) -> Result<&'f HeaderMap, Fault> {
    let (_, headers) = evaluation.facts.response.ok_or_else(|| Fault::Missing("response".into()))?;
    evaluation.budget.spend(headers.len())?;
    Ok(headers)
}

fn query<'f>(evaluation: &mut Evaluation<'_, 'f>) -> Result<&'f str, Fault> {
    let query = evaluation.facts.request.and_then(|request| request.uri.query()).unwrap_or_default();
    evaluation.budget.spend(query.len() / TEXT_BYTES_PER_STEP)?;
    Ok(query)
}

fn cookie(mut cookies: impl Iterator<Item = (String, Value)>, name: &str) -> Result<Value, Fault> {
    let found = cookies.find(|(known, _)| known == name).map(|(_, cookie)| cookie);
    found.ok_or_else(|| Fault::Missing(format!("cookie {name:?}")))
}

fn is_in(address: IpAddr, network: &Value) -> Result<bool, Fault> {
    let text = operators::text(network)?;
    let network = parse_network(text).ok_or_else(|| Fault::Invalid(format!("{text:?} is not a network")))?;
    Ok(network.contains(&address))
}
