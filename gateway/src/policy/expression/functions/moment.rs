//! The parts of a point in time, in UTC or in a time zone, and of a duration.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use time::{OffsetDateTime, UtcOffset};

use super::super::evaluate::Fault;
use super::super::value::Value;
use super::{Function, argument, text_argument};

pub(super) const TABLE: &[Function] = &[
    Function::method("getFullYear", 1..=2, |arguments, _| of_time(arguments, |time| i64::from(time.year()))),
    Function::method("getMonth", 1..=2, |arguments, _| {
        of_time(arguments, |time| i64::from(u8::from(time.month())) - 1)
    }),
    Function::method("getDate", 1..=2, |arguments, _| of_time(arguments, |time| i64::from(time.day()))),
    Function::method("getDayOfMonth", 1..=2, |arguments, _| of_time(arguments, |time| i64::from(time.day()) - 1)),
    Function::method("getDayOfYear", 1..=2, |arguments, _| of_time(arguments, |time| i64::from(time.ordinal()) - 1)),
    Function::method("getDayOfWeek", 1..=2, |arguments, _| {
        of_time(arguments, |time| i64::from(time.weekday().number_days_from_sunday()))
    }),
    Function::method("getHours", 1..=2, |arguments, _| match (argument(arguments, 0), arguments.get(1)) {
        (Value::Span(span), None) => Ok(Value::Int(span.whole_hours())),
        _ => of_time(arguments, |time| i64::from(time.hour())),
    }),
    Function::method("getMinutes", 1..=2, |arguments, _| match (argument(arguments, 0), arguments.get(1)) {
        (Value::Span(span), None) => Ok(Value::Int(span.whole_minutes())),
        _ => of_time(arguments, |time| i64::from(time.minute())),
    }),
    Function::method("getSeconds", 1..=2, |arguments, _| match (argument(arguments, 0), arguments.get(1)) {
        (Value::Span(span), None) => Ok(Value::Int(span.whole_seconds())),
        _ => of_time(arguments, |time| i64::from(time.second())),
    }),
    // Of a duration only the part below a second, as CEL has it.
    Function::method("getMilliseconds", 1..=2, |arguments, _| match (argument(arguments, 0), arguments.get(1)) {
        (Value::Span(span), None) => Ok(Value::Int(i64::from(span.subsec_milliseconds()))),
        _ => of_time(arguments, |time| i64::from(time.millisecond())),
    }),
];

fn of_time(arguments: &[Value], part: fn(OffsetDateTime) -> i64) -> Result<Value, Fault> {
    let Value::Time(time) = argument(arguments, 0) else {
        return Err(Fault::Type(format!("{} is no timestamp", argument(arguments, 0).kind())));
    };
    let offset = match arguments.get(1) {
        None => UtcOffset::UTC,
        Some(_) => offset_at(*time, text_argument(arguments, 1)?)?,
    };
    let there = time.checked_to_offset(offset);
    there.map(|time| Value::Int(part(time))).ok_or_else(|| Fault::Invalid("a timestamp is out of range".into()))
}

/// How far a zone is from UTC at a time: `+02:00`, or a name of the IANA's database, which is part of the program.
fn offset_at(time: OffsetDateTime, zone: &str) -> Result<UtcOffset, Fault> {
    let unknown = || Fault::Invalid(format!("{zone:?} is not a time zone such as Europe/Berlin, UTC or +02:00"));
    if let Some(offset) = fixed(zone) {
        return Ok(offset);
    }
    let zone = TimeZone::get(zone).map_err(|_| unknown())?;
    let at = Timestamp::from_second(time.unix_timestamp()).map_err(|_| unknown())?;
    UtcOffset::from_whole_seconds(zone.to_offset(at).seconds()).map_err(|_| unknown())
}

fn fixed(zone: &str) -> Option<UtcOffset> {
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("-", digits) => (-1, digits),
        ("+", digits) => (1, digits),
        _ => (1, zone),
    };
    let (hours, minutes) = digits.split_once(':')?;
    let (hours, minutes): (i8, i8) = (hours.parse().ok()?, minutes.parse().ok()?);
    let is_right = (0..=23).contains(&hours) && (0..=59).contains(&minutes);
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok().filter(|_| is_right)
}
