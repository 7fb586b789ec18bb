//! Every reader of messages. What is read must survive being written and read again.

use std::fmt::Debug;

use adit::message::{
    AuthReply, AuthRequest, BindLabeledReply, BindLabeledRequest, BindReply, BindRequest, CommandReply, EmptyReply,
    EmptyRequest, JsonScan, PatchRequest, ProxyHeader, ProxyHeaderReader, SrvInfoReply, StopTunnel, UnbindRequest,
    Update, WireError,
};
use serde_json::Value;

/// Gives the input to all of them.
pub fn message(data: &[u8]) {
    round_trip(data, AuthRequest::parse, AuthRequest::to_json);
    round_trip(data, AuthReply::parse, AuthReply::to_json);
    round_trip(data, BindReply::parse, BindReply::to_json);
    round_trip(data, BindLabeledRequest::parse, BindLabeledRequest::to_json);
    round_trip(data, BindLabeledReply::parse, BindLabeledReply::to_json);
    round_trip(data, CommandReply::parse, CommandReply::to_json);
    round_trip(data, EmptyReply::parse, EmptyReply::to_json);
    round_trip(data, EmptyRequest::parse, EmptyRequest::to_json);
    round_trip(data, PatchRequest::parse, PatchRequest::to_json);
    round_trip(data, ProxyHeader::parse, ProxyHeader::to_json);
    round_trip(data, SrvInfoReply::parse, SrvInfoReply::to_json);
    round_trip(data, StopTunnel::parse, StopTunnel::to_json);
    round_trip(data, UnbindRequest::parse, UnbindRequest::to_json);
    round_trip(data, Update::parse, Update::to_json);
    if let Some(bind) = round_trip(data, BindRequest::parse, BindRequest::to_json) {
        let _ = bind.requested(Some("example.test"));
        let _ = bind.proxy_protocol();
        let _ = bind.traffic_policy();
        let _ = bind.unsupported_modules();
    }
    scan(data);
    header(data);
    // A message that mentions a code itself would be taken for that code by every family of peers.
    if let Some(error) = WireError::parse(&String::from_utf8_lossy(data))
        && !error.message.contains("ERR_NGROK_")
    {
        let again = WireError::parse(&error.to_wire());
        assert_eq!(again.map(|again| again.code), Some(error.code), "the error's code is lost on the wire");
    }
}

fn round_trip<T: Debug, E: Debug>(
    data: &[u8],
    parse: impl Fn(&[u8]) -> Result<T, E>,
    write: impl Fn(&T) -> Vec<u8>,
) -> Option<T> {
    let value = parse(data).ok()?;
    let text = write(&value);
    match parse(&text) {
        Ok(again) => assert!(write(&again) == text || has_float(&text), "{value:?} changes when it is read again"),
        Err(error) => panic!("{value:?} is written so that it cannot be read: {error:?}"),
    }
    Some(value)
}

/// Whether a number in the text is a float: those may lose their last digit every time that they are read.
fn has_float(text: &[u8]) -> bool {
    fn any_float(value: &Value) -> bool {
        match value {
            Value::Number(number) => number.is_f64(),
            Value::Array(items) => items.iter().any(any_float),
            Value::Object(members) => members.values().any(any_float),
            Value::Null | Value::Bool(_) | Value::String(_) => false,
        }
    }
    serde_json::from_slice(text).is_ok_and(|value| any_float(&value))
}

/// The end of a JSON object must not depend on the chunking, and what ends there must be JSON or refused by serde.
fn scan(data: &[u8]) {
    let whole = JsonScan::default().push(data);
    let mut scan = JsonScan::default();
    let mut at = 0;
    let pieces = loop {
        let Some(piece) = data.get(at..at + 1) else { break Ok(None) };
        match scan.push(piece) {
            Ok(None) => at += 1,
            Ok(Some(used)) => break Ok(Some(at + used)),
            Err(error) => break Err(error),
        }
    };
    assert_eq!(whole, pieces, "the end of the object depends on the chunking");
    if let Ok(value) = serde_json::from_slice::<Value>(data)
        && value.is_object()
        && let Ok(end) = whole
    {
        let end = end.unwrap_or_default();
        assert!(data.get(end..).is_some_and(|rest| rest.trim_ascii().is_empty()), "an object ends at {end}");
    }
}

fn header(data: &[u8]) {
    let whole = ProxyHeaderReader::new().push(data);
    let mut reader = ProxyHeaderReader::new();
    let mut used = 0;
    for piece in data.chunks(1) {
        match reader.push(piece) {
            Ok(None) => used += 1,
            Ok(Some((header, last))) => {
                let Ok(Some((other, end))) = whole else { panic!("a header in pieces only: {header:?}") };
                assert_eq!((header.to_json(), used + last), (other.to_json(), end));
                return;
            }
            Err(error) => {
                assert_eq!(whole.err(), Some(error));
                return;
            }
        }
    }
    assert!(matches!(whole, Ok(None)), "a header only when it comes whole");
}
