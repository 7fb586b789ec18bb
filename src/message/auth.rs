//! Logging in: who the agent is, what it can do, and what session it gets or gets back.

use std::time::Duration;

use serde_json::{Map, Value};

use super::error::{MessageError, WireError};
use super::lookup;
use super::reply::error_text;
use super::secret::Secret;
use super::write::ObjectWriter;

/// The agent's request for a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthRequest {
    /// The protocol versions that the agent speaks, the best one first.
    pub versions: Vec<String>,
    /// The session to take up again; empty for a new one.
    pub client_id: String,
    /// Everything else.
    pub extra: AuthExtra,
}

/// What an agent says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthExtra {
    /// The operating system.
    pub os: String,
    /// The processor's architecture.
    pub arch: String,
    /// The token that proves whose agent this is.
    pub authtoken: Secret,
    /// The agent's version.
    pub version: String,
    /// The name of the agent's host; agents leave it empty.
    pub hostname: String,
    /// Product names and versions as in HTTP's header of that name.
    pub user_agent: String,
    /// Text that the gateway only keeps.
    pub metadata: String,
    /// The newest cookie that the gateway gave; empty at first.
    pub cookie: Secret,
    /// How often the agent beats, at most [`HEARTBEAT_MAX`]; zero when it does not say.
    pub heartbeat_interval: Duration,
    /// How long it waits for the echo, at most [`HEARTBEAT_MAX`]; zero when it does not say.
    pub heartbeat_tolerance: Duration,
    /// Empty when the agent can update itself, else why not; `None` when it is too old to say.
    pub update_unsupported: Option<String>,
    /// As `update_unsupported`, for being stopped from afar.
    pub stop_unsupported: Option<String>,
    /// As `update_unsupported`, for being restarted from afar.
    pub restart_unsupported: Option<String>,
    /// The agent's family, such as `ngrok-go`.
    pub client_type: String,
    /// Which of several links of one session this is; 0 for the first or only one.
    pub leg_number: u32,
    /// What goes beyond ngrok's protocol; `None` from agents that do not know it.
    pub adit: Option<AditExtra>,
}

/// What the two programs tell each other beyond ngrok's protocol, in the member `Adit` of either `Extra`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AditExtra {
    /// The version of this object, at least 1. Members are only ever added.
    pub version: u32,
    /// How many streams at a time the peer may have open towards the sender; `None` means what ngrok's agents bear.
    pub streams_max: Option<u32>,
    /// The receive window, in bytes, that the sender grants each stream which the gateway opens; `None` means 262144.
    pub window: Option<u32>,
    /// Tells the boxes apart that share a credential, the same after each start of the agent on one box: 1 to
    /// [`INSTANCE_LEN_MAX`] printable ASCII characters. Means nothing outside its credential.
    pub instance: Option<String>,
    /// How long the agent is to stay away. In a refusal, and in the text of a GOAWAY.
    pub retry_after: Option<Duration>,
}

impl AuthRequest {
    /// Reads a request. Beats below zero count as not given, those above [`HEARTBEAT_MAX`] as that.
    ///
    /// # Errors
    ///
    /// Text that is no object, or a member of the wrong type.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let root = lookup::parse_object(bytes)?;
        let extra = lookup::optional_object(&root, "Extra")?;
        Ok(Self {
            versions: lookup::texts(&root, "Version")?,
            client_id: lookup::text(&root, "ClientId")?,
            extra: extra.map(AuthExtra::read).transpose()?.unwrap_or_default(),
        })
    }

    /// Writes the request.
    pub fn to_json(&self) -> Vec<u8> {
        ObjectWriter::new()
            .member("Version", &self.versions)
            .member("ClientId", &self.client_id)
            .object("Extra", self.extra.write())
            .finish()
    }
}

impl AuthExtra {
    fn read(extra: &Map<String, Value>) -> Result<Self, MessageError> {
        Ok(Self {
            os: lookup::text(extra, "Extra.OS")?,
            arch: lookup::text(extra, "Extra.Arch")?,
            authtoken: Secret::new(lookup::text(extra, "Extra.Authtoken")?),
            version: lookup::text(extra, "Extra.Version")?,
            hostname: lookup::text(extra, "Extra.Hostname")?,
            user_agent: lookup::text(extra, "Extra.UserAgent")?,
            metadata: lookup::text(extra, "Extra.Metadata")?,
            cookie: Secret::new(lookup::text(extra, "Extra.Cookie")?),
            heartbeat_interval: nanoseconds(extra, "Extra.HeartbeatInterval")?,
            heartbeat_tolerance: nanoseconds(extra, "Extra.HeartbeatTolerance")?,
            update_unsupported: lookup::optional_text(extra, "Extra.UpdateUnsupportedError")?,
            stop_unsupported: lookup::optional_text(extra, "Extra.StopUnsupportedError")?,
            restart_unsupported: lookup::optional_text(extra, "Extra.RestartUnsupportedError")?,
            client_type: lookup::text(extra, "Extra.ClientType")?,
            leg_number: lookup::optional_u32(extra, "Extra.LegNumber")?.unwrap_or_default(),
            adit: AditExtra::read(extra)?,
        })
    }

    fn write(&self) -> ObjectWriter {
        let writer = ObjectWriter::new()
            .member("OS", &self.os)
            .member("Arch", &self.arch)
            .member("Authtoken", self.authtoken.expose())
            .member("Version", &self.version)
            .member("Hostname", &self.hostname)
            .member("UserAgent", &self.user_agent)
            .member("Metadata", &self.metadata)
            .member("Cookie", self.cookie.expose())
            .member("HeartbeatInterval", &as_nanoseconds(self.heartbeat_interval))
            .member("HeartbeatTolerance", &as_nanoseconds(self.heartbeat_tolerance))
            .member("UpdateUnsupportedError", &self.update_unsupported)
            .member("StopUnsupportedError", &self.stop_unsupported)
            .member("RestartUnsupportedError", &self.restart_unsupported)
            // What only ngrok's own agent fills in; all SDKs send these values.
            .member("ProxyType", "")
            .member("MutualTLS", &false)
            .member("ServiceRun", &false)
            .member("ConfigVersion", "")
            .member("CustomInterface", &false)
            .member("CustomCAs", &false)
            .member("ClientType", &self.client_type)
            .member("LegNumber", &self.leg_number);
        AditExtra::write_into(self.adit.as_ref(), writer)
    }
}

impl Default for AditExtra {
    /// The present version, and nothing beyond it.
    fn default() -> Self {
        Self { version: EXTRA_VERSION, streams_max: None, window: None, instance: None, retry_after: None }
    }
}

impl AditExtra {
    /// The text of a GOAWAY to a peer that knows this object: words for a person, and the object.
    pub fn to_go_away(&self, words: &str) -> String {
        let object = Self::write_into(Some(self), ObjectWriter::new()).finish();
        format!("{words} {}", String::from_utf8_lossy(&object))
    }

    /// Takes the text of a GOAWAY apart: the words, and the object if there is one that can be read.
    pub fn from_go_away(text: &str) -> (&str, Option<Self>) {
        let Some((words, object)) = text.rfind(" {\"Adit\":").and_then(|at| text.split_at_checked(at)) else {
            return (text, None);
        };
        match lookup::parse_object(object.as_bytes()).and_then(|object| Self::read(&object)) {
            Ok(Some(adit)) => (words, Some(adit)),
            Ok(None) | Err(_) => (text, None),
        }
    }

    fn read(extra: &Map<String, Value>) -> Result<Option<Self>, MessageError> {
        let Some(object) = lookup::optional_object(extra, "Extra.Adit")? else {
            return Ok(None);
        };
        let version = lookup::optional_u32(object, "Extra.Adit.Version")?;
        let version = version
            .filter(|version| *version > 0)
            .ok_or(MessageError::Value { field: "Extra.Adit.Version", expected: "an integer from 1" })?;
        let retry_after = lookup::optional_u32(object, "Extra.Adit.RetryAfterMs")?;
        Ok(Some(Self {
            version,
            streams_max: lookup::optional_u32(object, "Extra.Adit.StreamsMax")?,
            window: lookup::optional_u32(object, "Extra.Adit.Window")?,
            instance: read_instance(object)?,
            retry_after: retry_after.map(|ms| Duration::from_millis(ms.into())),
        }))
    }

    fn write_into(adit: Option<&Self>, writer: ObjectWriter) -> ObjectWriter {
        let Some(Self { version, streams_max, window, instance, retry_after }) = adit else {
            return writer;
        };
        let retry_after = retry_after.map(|time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
        let object = ObjectWriter::new()
            .member("Version", version)
            .optional("StreamsMax", streams_max.as_ref())
            .optional("Window", window.as_ref())
            .optional("Instance", instance.as_ref())
            .optional("RetryAfterMs", retry_after.as_ref());
        writer.object("Adit", object)
    }
}

/// Whether a text can be an instance: one that ends up in logs and refusals as it is.
pub fn is_instance(text: &str) -> bool {
    (1..=INSTANCE_LEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn read_instance(object: &Map<String, Value>) -> Result<Option<String>, MessageError> {
    const FIELD: &str = "Extra.Adit.Instance";
    let instance = lookup::optional_text(object, FIELD)?;
    match instance {
        Some(text) if !is_instance(&text) => {
            Err(MessageError::Value { field: FIELD, expected: "1 to 64 printable ASCII characters without spaces" })
        }
        other => Ok(other),
    }
}

/// The gateway's answer to an [`AuthRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthReply {
    /// The protocol version that the gateway chose.
    pub version: String,
    /// The session.
    pub client_id: String,
    /// Why there is no session; `None` when there is one.
    pub error: Option<WireError>,
    /// Everything else.
    pub extra: AuthReplyExtra,
}

/// What a gateway says about itself and the session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthReplyExtra {
    /// The gateway's version.
    pub version: String,
    /// A name for where the gateway is.
    pub region: String,
    /// What takes the session up again after the link was lost; an empty one clears the last one.
    pub cookie: Secret,
    /// The account that the token belongs to.
    pub account_name: String,
    /// The account's plan.
    pub plan_name: String,
    /// A text to show to the agent's user.
    pub banner: String,
    /// After how many seconds the gateway ends the session; 0 for never.
    pub session_duration: i64,
    /// A name of the session for people.
    pub agent_session_id: String,
    /// What goes beyond ngrok's protocol; `None` from gateways that do not know it.
    pub adit: Option<AditExtra>,
}

impl AuthReply {
    /// The reply that refuses a session.
    pub fn refused(error: WireError) -> Self {
        Self { version: PROTOCOL_VERSION.to_owned(), error: Some(error), ..Self::default() }
    }

    /// Reads a reply; of a refusal only the error and `Extra.Adit`.
    ///
    /// # Errors
    ///
    /// Text that is no object, a member of the wrong type, or success without `Version` or `ClientId`.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let root = lookup::parse_object(bytes)?;
        if let Some(error) = lookup::wire_error(&root)? {
            let mut refused = Self::refused(error);
            // Why there is no session matters more than a broken hint beside it.
            let extra = lookup::optional_object(&root, "Extra").ok().flatten();
            refused.extra.adit = extra.and_then(|extra| AditExtra::read(extra).ok().flatten());
            return Ok(refused);
        }
        let extra = lookup::optional_object(&root, "Extra")?;
        Ok(Self {
            version: lookup::required_text(&root, "Version")?,
            client_id: lookup::required_text(&root, "ClientId")?,
            error: None,
            extra: extra.map(AuthReplyExtra::read).transpose()?.unwrap_or_default(),
        })
    }

    /// Writes the reply.
    pub fn to_json(&self) -> Vec<u8> {
        ObjectWriter::new()
            .member("Version", &self.version)
            .member("ClientId", &self.client_id)
            .member("Error", &error_text(self.error.as_ref()))
            .object("Extra", self.extra.write())
            .finish()
    }
}

impl AuthReplyExtra {
    fn read(extra: &Map<String, Value>) -> Result<Self, MessageError> {
        Ok(Self {
            version: lookup::text(extra, "Extra.Version")?,
            region: lookup::text(extra, "Extra.Region")?,
            cookie: Secret::new(lookup::text(extra, "Extra.Cookie")?),
            account_name: lookup::text(extra, "Extra.AccountName")?,
            plan_name: lookup::text(extra, "Extra.PlanName")?,
            banner: lookup::text(extra, "Extra.Banner")?,
            session_duration: lookup::optional_integer(extra, "Extra.SessionDuration")?.unwrap_or_default(),
            agent_session_id: lookup::text(extra, "Extra.AgentSessionID")?,
            adit: AditExtra::read(extra)?,
        })
    }

    fn write(&self) -> ObjectWriter {
        let writer = ObjectWriter::new()
            .member("Version", &self.version)
            .member("Region", &self.region)
            .member("Cookie", self.cookie.expose())
            .member("AccountName", &self.account_name)
            .member("SessionDuration", &self.session_duration)
            .member("PlanName", &self.plan_name)
            .member("Banner", &self.banner)
            .member("AgentSessionID", &self.agent_session_id);
        AditExtra::write_into(self.adit.as_ref(), writer)
    }
}

fn nanoseconds(extra: &Map<String, Value>, field: &'static str) -> Result<Duration, MessageError> {
    let integer = lookup::optional_integer(extra, field)?.unwrap_or_default();
    let duration = Duration::from_nanos(u64::try_from(integer).unwrap_or_default());
    Ok(duration.min(HEARTBEAT_MAX))
}

fn as_nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.min(HEARTBEAT_MAX).as_nanos()).unwrap_or_default()
}

/// The only version of [`AditExtra`] so far.
pub const EXTRA_VERSION: u32 = 1;

/// Longest [`AditExtra::instance`], in bytes: twice a hash of 128 bit in hexadecimal digits.
pub const INSTANCE_LEN_MAX: usize = 64;

/// The longest time that a heartbeat interval or tolerance is read as. Liveness is judged within minutes in any case; the
/// bound only keeps sums with a peer's number far away from overflow.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(3600);

/// The protocol version that all agents offer first.
const PROTOCOL_VERSION: &str = "3";

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    /// The worked example of the protocol.
    const REQUEST: &str = r#"{"Version":["3","2"],"ClientId":"","Extra":{"OS":"linux","Arch":"amd64","Authtoken":"tok_EXAMPLE","Version":"0.1.0","Hostname":"","UserAgent":"my-agent/0.1.0","Metadata":"","Cookie":"","HeartbeatInterval":10000000000,"HeartbeatTolerance":15000000000,"UpdateUnsupportedError":"no","StopUnsupportedError":"","RestartUnsupportedError":"no","ProxyType":"","MutualTLS":false,"ServiceRun":false,"ConfigVersion":"","CustomInterface":false,"CustomCAs":false,"ClientType":"my-agent","LegNumber":0}}"#;
    const REPLY: &str = r#"{"Version":"3","ClientId":"c1","Error":"","Extra":{"Version":"1","Region":"local","Cookie":"k1","AccountName":"acct","SessionDuration":0,"PlanName":"free","Banner":"","AgentSessionID":"as1"}}"#;

    fn request(extra: &str) -> Result<AuthRequest, MessageError> {
        AuthRequest::parse(format!(r#"{{"Extra":{{{extra}}}}}"#).as_bytes())
    }

    #[test]
    fn worked_example_is_read_and_written_byte_for_byte() {
        let request = AuthRequest::parse(REQUEST.as_bytes()).unwrap();
        assert_eq!(request.versions, ["3", "2"]);
        assert_eq!(request.extra.authtoken.expose(), "tok_EXAMPLE");
        assert_eq!(request.extra.heartbeat_interval, Duration::from_secs(10));
        assert_eq!(request.extra.heartbeat_tolerance, Duration::from_secs(15));
        assert_eq!(request.extra.update_unsupported.as_deref(), Some("no"));
        assert_eq!(request.extra.stop_unsupported.as_deref(), Some(""));
        assert_eq!(request.extra.adit, None);
        assert_eq!(String::from_utf8(request.to_json()).unwrap(), REQUEST);

        let reply = AuthReply::parse(REPLY.as_bytes()).unwrap();
        assert_eq!((reply.client_id.as_str(), reply.extra.cookie.expose()), ("c1", "k1"));
        assert_eq!(reply.error, None);
        assert_eq!(String::from_utf8(reply.to_json()).unwrap(), REPLY);
    }

    #[test]
    fn rust_family_is_understood() {
        let json = r#"{"Version":["3","2"],"ClientId":"c","Extra":{"OS":"linux","Arch":"x86_64","AuthToken":"t","Version":"1.7.0","Hostname":"","UserAgent":"ngrok-javascript/1.7.0 ngrok-rust/0.18.0","Metadata":"","Cookie":"","HeartbeatInterval":10000000000,"HeartbeatTolerance":15000000000,"UpdateUnsupportedError":null,"StopUnsupportedError":null,"RestartUnsupportedError":null,"ProxyType":"","MutualTLS":false,"ServiceRun":false,"ConfigVersion":"","CustomInterface":false,"CustomCAs":false,"ClientType":"ngrok-javascript"}}"#;
        let request = AuthRequest::parse(json.as_bytes()).unwrap();
        assert_eq!(request.extra.authtoken.expose(), "t");
        assert_eq!(request.extra.stop_unsupported, None);
        assert_eq!((request.extra.client_type.as_str(), request.extra.leg_number), ("ngrok-javascript", 0));
    }

    #[test]
    fn request_without_anything_is_empty() {
        for json in ["{}", r#"{"Version":null,"ClientId":null,"Extra":null}"#, "{\"Extra\":{\"Fingerprint\":null}}\n"] {
            assert_eq!(AuthRequest::parse(json.as_bytes()), Ok(AuthRequest::default()), "{json}");
        }
    }

    #[test]
    fn beats_are_clamped() {
        let interval =
            |number: &str| request(&format!(r#""HeartbeatInterval":{number}"#)).map(|r| r.extra.heartbeat_interval);
        assert_eq!(interval("-1"), Ok(Duration::ZERO));
        assert_eq!(interval("3600000000000"), Ok(HEARTBEAT_MAX));
        assert_eq!(interval("3600000000001"), Ok(HEARTBEAT_MAX));
        assert_eq!(interval("9223372036854775807"), Ok(HEARTBEAT_MAX));
        let error = MessageError::Type { field: "Extra.HeartbeatInterval", expected: "an integer of 64 bits" };
        for number in ["9223372036854775808", "1e300", "\"10s\"", "[]"] {
            assert_eq!(interval(number), Err(error), "{number}");
        }
    }

    #[test]
    fn adit_object_needs_a_version_and_may_have_more_members() {
        let adit = |object: &str| request(&format!(r#""Adit":{object}"#)).map(|r| r.extra.adit);
        let known = AditExtra {
            streams_max: Some(4096),
            window: Some(65_536),
            instance: Some("box-7".to_owned()),
            ..AditExtra::default()
        };
        let text = r#"{"Version":1,"StreamsMax":4096,"Window":65536,"Instance":"box-7"}"#;
        assert_eq!(adit(text), Ok(Some(known)));
        assert_eq!(adit(r#"{"Version":2,"New":[]}"#), Ok(Some(AditExtra { version: 2, ..AditExtra::default() })));
        assert_eq!(adit("null"), Ok(None));
        for object in [
            "{}",
            r#"{"Version":0}"#,
            r#"{"Version":"1"}"#,
            r#"{"Version":1,"StreamsMax":-1}"#,
            r#"{"Version":1,"Window":"1"}"#,
            "1",
        ] {
            assert!(adit(object).is_err(), "{object}");
        }
    }

    #[test]
    fn instance_is_short_and_printable() {
        let adit = |instance: &str| request(&format!(r#""Adit":{{"Version":1,"Instance":{instance}}}"#));
        let longest = format!("\"{}\"", "x".repeat(INSTANCE_LEN_MAX));
        assert!(adit(&longest).is_ok());
        let too_long = format!("\"{}\"", "x".repeat(INSTANCE_LEN_MAX + 1));
        for bad in ["\"\"", "\"a b\"", r#""a\nb""#, "\"ü\"", "7", &too_long] {
            assert!(adit(bad).is_err(), "{bad}");
        }
        assert!(adit("null").unwrap().extra.adit.unwrap().instance.is_none());
    }

    #[test]
    fn go_away_carries_the_object_behind_the_words() {
        let adit = AditExtra { retry_after: Some(Duration::from_millis(7020)), ..AditExtra::default() };
        let text = adit.to_go_away("the gateway is shutting down");
        assert_eq!(text, "the gateway is shutting down {\"Adit\":{\"Version\":1,\"RetryAfterMs\":7020}}");
        assert_eq!(AditExtra::from_go_away(&text), ("the gateway is shutting down", Some(adit)));
        for plain in
            ["", "no error", "a {", "a {}", "a {\"Adit\":7}", "a {\"Adit\":null}", "a {\"Adit\":{\"Version\":1}"]
        {
            assert_eq!(AditExtra::from_go_away(plain), (plain, None));
        }
    }

    #[test]
    fn refusal_keeps_the_object_and_survives_a_broken_one() {
        let mut refused = AuthReply::refused(WireError::new(349, "m"));
        let retry_after = Some(Duration::from_millis(u64::from(u32::MAX)));
        refused.extra.adit = Some(AditExtra { retry_after, ..AditExtra::default() });
        assert_eq!(AuthReply::parse(&refused.to_json()), Ok(refused));
        let broken = br#"{"Error":"m\n\nERR_NGROK_349\n","Extra":{"Adit":{"Version":1,"RetryAfterMs":-1}}}"#;
        assert_eq!(AuthReply::parse(broken), Ok(AuthReply::refused(WireError::new(349, "m"))));
    }

    #[test]
    fn adit_object_has_its_documented_form() {
        let mut reply = AuthReply::default();
        reply.extra.adit = Some(AditExtra { streams_max: Some(7), window: Some(65_536), ..AditExtra::default() });
        let json = String::from_utf8(reply.to_json()).unwrap();
        assert!(json.ends_with(r#","Adit":{"Version":1,"StreamsMax":7,"Window":65536}}}"#), "{json}");
    }

    #[test]
    fn refusal_needs_no_other_member() {
        let reply = AuthReply::parse(br#"{"Error":"m\n\nERR_NGROK_107\n","Extra":7}"#).unwrap();
        assert_eq!(reply, AuthReply::refused(WireError::new(107, "m")));
        assert_eq!(AuthReply::parse(&reply.to_json()), Ok(reply));
    }

    #[test]
    fn success_needs_version_and_client_id_of_the_right_type() {
        let missing = |field| Err(MessageError::Missing { field });
        assert_eq!(AuthReply::parse(br#"{"Version":"3"}"#), missing("ClientId"));
        assert_eq!(AuthReply::parse(br#"{"ClientId":"c"}"#), missing("Version"));
        assert!(AuthReply::parse(br#"{"Version":"3","ClientId":"c"}"#).is_ok());
        assert!(AuthReply::parse(br#"{"Version":"3","ClientId":"c","Extra":{"SessionDuration":"0"}}"#).is_err());
    }

    #[test]
    fn secrets_are_in_neither_debug_nor_errors() {
        let request = request(r#""AuthToken":"hunter2","Cookie":"hunter3""#).unwrap();
        let printed = format!("{request:?}");
        assert!(!printed.contains("hunter"), "{printed}");
        let error = AuthRequest::parse(br#"{"Extra":{"AuthToken":["hunter2"]}}"#).unwrap_err();
        assert_eq!(error.to_string(), "Extra.Authtoken must be a string");
    }

    fn adit() -> impl Strategy<Value = Option<AditExtra>> {
        let retry_after = option::of(any::<u32>().prop_map(|ms| Duration::from_millis(ms.into())));
        let object = (1u32.., any::<Option<u32>>(), any::<Option<u32>>(), option::of("[!-~]{1,64}"), retry_after);
        option::of(object.prop_map(|(version, streams_max, window, instance, retry_after)| AditExtra {
            version,
            streams_max,
            window,
            instance,
            retry_after,
        }))
    }

    fn reply_extra() -> impl Strategy<Value = AuthReplyExtra> {
        (prop::array::uniform7(".{0,9}"), any::<i64>(), adit()).prop_map(|(texts, session_duration, adit)| {
            let [version, region, cookie, account_name, plan_name, banner, agent_session_id] = texts;
            let cookie = Secret::new(cookie);
            AuthReplyExtra {
                version,
                region,
                cookie,
                account_name,
                plan_name,
                banner,
                session_duration,
                agent_session_id,
                adit,
            }
        })
    }

    fn request_extra() -> impl Strategy<Value = AuthExtra> {
        let texts = prop::array::uniform9(".{0,9}");
        let unsupported = prop::array::uniform3(option::of(".{0,9}"));
        let beats = (0..=3_600_000_000_000u64, 0..=3_600_000_000_000u64);
        (texts, unsupported, beats, any::<u32>(), adit()).prop_map(|(texts, unsupported, beats, leg_number, adit)| {
            let [os, arch, authtoken, version, hostname, user_agent, metadata, cookie, client_type] = texts;
            let [update_unsupported, stop_unsupported, restart_unsupported] = unsupported;
            AuthExtra {
                os,
                arch,
                authtoken: Secret::new(authtoken),
                version,
                hostname,
                user_agent,
                metadata,
                cookie: Secret::new(cookie),
                heartbeat_interval: Duration::from_nanos(beats.0),
                heartbeat_tolerance: Duration::from_nanos(beats.1),
                update_unsupported,
                stop_unsupported,
                restart_unsupported,
                client_type,
                leg_number,
                adit,
            }
        })
    }

    proptest! {
        #[test]
        fn request_survives_a_round_trip(versions in prop::collection::vec(".{0,3}", 0..3), client_id in ".{0,9}", extra in request_extra()) {
            let request = AuthRequest { versions, client_id, extra };
            prop_assert_eq!(AuthRequest::parse(&request.to_json()), Ok(request));
        }

        #[test]
        fn reply_survives_a_round_trip(version in ".{0,3}", client_id in ".{0,9}", extra in reply_extra()) {
            let reply = AuthReply { version, client_id, error: None, extra };
            prop_assert_eq!(AuthReply::parse(&reply.to_json()), Ok(reply));
        }

        #[test]
        fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (AuthRequest::parse(&bytes), AuthReply::parse(&bytes));
            let text = format!("words {{\"Adit\":{}", String::from_utf8_lossy(&bytes));
            let _ = AditExtra::from_go_away(&text);
        }

        #[test]
        fn damaged_messages_do_no_harm(at in 0..REQUEST.len(), byte: u8) {
            for text in [REQUEST, REPLY] {
                let mut bytes = text.as_bytes().to_vec();
                let at = at % bytes.len();
                bytes[at] = byte;
                let _ = (AuthRequest::parse(&bytes), AuthReply::parse(&bytes));
            }
        }
    }
}
