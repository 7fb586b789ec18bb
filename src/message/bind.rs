//! Bringing an endpoint online.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::bind_options;
use super::error::{MessageError, WireError};
use super::lookup;
use super::reply::error_text;
use super::secret::Secret;
use super::write::ObjectWriter;
use crate::endpoint_url::{EndpointUrl, EndpointUrlError, RequestedUrl, Scheme};
use crate::proxy_protocol::ProxyProtocol;

/// The request to bring one endpoint online, for the first time or again.
#[derive(Clone, PartialEq)]
pub struct BindRequest {
    /// The endpoint's id from an earlier reply, which the gateway has to keep; empty for a new endpoint.
    pub id: String,
    /// What kind of endpoint it is.
    pub proto: Scheme,
    /// What is behind the endpoint, for people.
    pub forwards_to: String,
    /// The HTTP version that the upstream wants: `http1`, `http2` or nothing.
    pub forwards_proto: String,
    /// The options as they came, with every member that nobody here knows. They can hold secrets.
    pub opts: Map<String, Value>,
    /// Everything else.
    pub extra: BindExtra,
}

/// What a bind request says besides the options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindExtra {
    /// The token from an earlier reply; empty for a new endpoint.
    pub token: Secret,
    /// The id of an IP policy at the gateway.
    pub ip_policy_ref: String,
    /// Text that the gateway only keeps.
    pub metadata: String,
    /// From where the endpoint can be reached: `public`, `internal` or nothing.
    pub bindings: Vec<String>,
    /// Whether several agents may serve the endpoint.
    pub pooling_enabled: bool,
    /// The endpoint's name.
    pub name: String,
    /// A description for people.
    pub description: String,
}

impl BindRequest {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// Text that is no object, a member of the wrong type, or a `Proto` or `ProxyProto` that does not exist.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let root = lookup::parse_object(bytes)?;
        let opts = lookup::optional_object(&root, "Opts")?.cloned().unwrap_or_default();
        bind_options::check(&opts)?;
        let extra = lookup::optional_object(&root, "Extra")?;
        Ok(Self {
            id: lookup::text(&root, "Id")?,
            proto: proto(&root)?,
            forwards_to: lookup::text(&root, "ForwardsTo")?,
            forwards_proto: lookup::text(&root, "ForwardsProto")?,
            opts,
            extra: extra.map(BindExtra::read).transpose()?.unwrap_or_default(),
        })
    }

    /// Writes the request.
    pub fn to_json(&self) -> Vec<u8> {
        ObjectWriter::new()
            .member("Id", &self.id)
            .member("Proto", self.proto.as_str())
            .member("ForwardsTo", &self.forwards_to)
            .member("ForwardsProto", &self.forwards_proto)
            .member("Opts", &self.opts)
            .object("Extra", self.extra.write())
            .finish()
    }

    /// The address asked for, in whichever member the agent's family puts it. Subdomains belong under `base_domain`.
    ///
    /// # Errors
    ///
    /// What is wrong with the address, or that there is no base domain.
    pub fn requested(&self, base_domain: Option<&str>) -> Result<RequestedUrl, EndpointUrlError> {
        bind_options::requested(&self.opts, self.proto, base_domain)
    }

    /// The options for the reply: those of the request, so that the agent rebinds with all of them, and in those members
    /// where the request left the address to the gateway the one it chose.
    pub fn echoed_opts(&self, url: &EndpointUrl) -> Map<String, Value> {
        bind_options::echoed(&self.opts, self.proto, url)
    }

    /// Which PROXY header the gateway is to put in front of each connection.
    ///
    /// # Errors
    ///
    /// A version that does not exist.
    pub fn proxy_protocol(&self) -> Result<ProxyProtocol, MessageError> {
        bind_options::proxy_protocol(&self.opts)
    }

    /// The endpoint's Traffic Policy as YAML or JSON text, if it has one. It can hold secrets.
    pub fn traffic_policy(&self) -> Option<String> {
        bind_options::traffic_policy(&self.opts)
    }

    /// The names of everything in the request, Traffic Policy and PROXY header apart, that asks the gateway to treat the
    /// traffic specially. Where it does not implement one of them, it has to refuse the request: many are protections.
    pub fn unsupported_modules(&self) -> Vec<String> {
        let mut names = bind_options::modules(&self.opts);
        if !self.extra.ip_policy_ref.is_empty() {
            names.push("IPPolicyRef".to_owned());
        }
        names
    }
}

impl fmt::Debug for BindRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BindRequest")
            .field("id", &self.id)
            .field("proto", &self.proto)
            .field("forwards_to", &self.forwards_to)
            .field("forwards_proto", &self.forwards_proto)
            .field("opts", &OptionNames(&self.opts))
            .field("extra", &self.extra)
            .finish()
    }
}

impl BindExtra {
    fn read(extra: &Map<String, Value>) -> Result<Self, MessageError> {
        Ok(Self {
            token: Secret::new(lookup::text(extra, "Extra.Token")?),
            ip_policy_ref: lookup::text(extra, "Extra.IPPolicyRef")?,
            metadata: lookup::text(extra, "Extra.Metadata")?,
            bindings: lookup::texts(extra, "Extra.Bindings")?,
            pooling_enabled: lookup::optional_flag(extra, "Extra.PoolingEnabled")?.unwrap_or_default(),
            name: lookup::text(extra, "Extra.Name")?,
            description: lookup::text(extra, "Extra.Description")?,
        })
    }

    fn write(&self) -> ObjectWriter {
        ObjectWriter::new()
            .member("Name", &self.name)
            .member("Token", self.token.expose())
            .member("IPPolicyRef", &self.ip_policy_ref)
            .member("Metadata", &self.metadata)
            .member("Description", &self.description)
            .member("Bindings", &self.bindings)
            .member("PoolingEnabled", &self.pooling_enabled)
    }
}

/// The gateway's answer to a [`BindRequest`].
#[derive(Clone, PartialEq)]
pub struct BindReply {
    /// The endpoint's id: the request's, if it had one.
    pub id: String,
    /// The endpoint's address.
    pub url: String,
    /// What kind of endpoint it is.
    pub proto: Scheme,
    /// The options with which the agent is to bind the endpoint again.
    pub opts: Map<String, Value>,
    /// Why the endpoint is not online; `None` when it is.
    pub error: Option<WireError>,
    /// Everything else.
    pub extra: BindReplyExtra,
}

/// What a bind reply says besides the options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindReplyExtra {
    /// What proves, when the agent binds the endpoint again, that it is the agent's.
    pub token: Secret,
    /// The id by which a [`PatchRequest`](super::PatchRequest) names the endpoint.
    pub tunnel_id: String,
}

impl BindReply {
    /// The reply that refuses an endpoint.
    pub fn refused(error: WireError) -> Self {
        Self {
            id: String::new(),
            url: String::new(),
            // Agents ignore it beside an error, but some cannot read a reply without a valid one.
            proto: Scheme::Https,
            opts: Map::new(),
            error: Some(error),
            extra: BindReplyExtra::default(),
        }
    }

    /// Reads a reply; of a refusal only the error.
    ///
    /// # Errors
    ///
    /// Text that is no object, a member of the wrong type, or success without `Id`, `URL`, `Proto`, `Opts` or `Extra.Token`.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let root = lookup::parse_object(bytes)?;
        if let Some(error) = lookup::wire_error(&root)? {
            return Ok(Self::refused(error));
        }
        let opts = lookup::optional_object(&root, "Opts")?;
        let extra = lookup::optional_object(&root, "Extra")?;
        let extra = extra.ok_or(MessageError::Missing { field: "Extra" })?;
        Ok(Self {
            id: lookup::required_text(&root, "Id")?,
            url: lookup::required_text(&root, "URL")?,
            proto: proto(&root)?,
            opts: opts.ok_or(MessageError::Missing { field: "Opts" })?.clone(),
            error: None,
            extra: BindReplyExtra {
                token: Secret::new(lookup::required_text(extra, "Extra.Token")?),
                tunnel_id: lookup::text(extra, "Extra.TunnelID")?,
            },
        })
    }

    /// Writes the reply, with every member that any family of agents cannot do without.
    pub fn to_json(&self) -> Vec<u8> {
        let extra =
            ObjectWriter::new().member("Token", self.extra.token.expose()).member("TunnelID", &self.extra.tunnel_id);
        ObjectWriter::new()
            .member("Id", &self.id)
            .member("URL", &self.url)
            .member("Proto", self.proto.as_str())
            .member("Opts", &self.opts)
            .member("Error", &error_text(self.error.as_ref()))
            .object("Extra", extra)
            .finish()
    }
}

impl fmt::Debug for BindReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BindReply")
            .field("id", &self.id)
            .field("url", &self.url)
            .field("proto", &self.proto)
            .field("opts", &OptionNames(&self.opts))
            .field("error", &self.error)
            .field("extra", &self.extra)
            .finish()
    }
}

/// Prints the names of options without their values, which can be passwords and keys.
struct OptionNames<'a>(&'a Map<String, Value>);

impl fmt::Debug for OptionNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

fn proto(root: &Map<String, Value>) -> Result<Scheme, MessageError> {
    let field = "Proto";
    let text = lookup::required_text(root, field)?;
    Scheme::from_str(&text).map_err(|_| MessageError::Value { field, expected: "http, https, tls or tcp" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::codes;
    use super::*;

    /// The worked example of the protocol: requests and replies.
    const HTTPS: [&str; 2] = [
        r#"{"Id":"","Proto":"https","ForwardsTo":"http://localhost:8080","ForwardsProto":"","Opts":{"URL":"https://app.internal","Domain":"","Hostname":"","Subdomain":"","Auth":"","HostHeaderRewrite":false,"ProxyProto":0,"TrafficPolicy":""},"Extra":{"Name":"","Token":"","IPPolicyRef":"","Metadata":"","Description":"","Bindings":["internal"],"PoolingEnabled":false}}"#,
        r#"{"Id":"b1","URL":"https://app.internal","Proto":"https","Opts":{"URL":"https://app.internal","Domain":"","Hostname":"","Subdomain":"","Auth":"","HostHeaderRewrite":false,"ProxyProto":0,"TrafficPolicy":""},"Error":"","Extra":{"Token":"t1","TunnelID":"tn1"}}"#,
    ];
    const TCP: [&str; 2] = [
        r#"{"Id":"","Proto":"tcp","ForwardsTo":"localhost:5432","ForwardsProto":"","Opts":{"URL":"tcp://db.internal:5432","Addr":"","ProxyProto":0,"TrafficPolicy":""},"Extra":{"Name":"","Token":"","IPPolicyRef":"","Metadata":"","Description":"","Bindings":["internal"],"PoolingEnabled":false}}"#,
        r#"{"Id":"b2","URL":"tcp://db.internal:5432","Proto":"tcp","Opts":{"URL":"tcp://db.internal:5432","Addr":"","ProxyProto":0,"TrafficPolicy":""},"Error":"","Extra":{"Token":"t2","TunnelID":"tn2"}}"#,
    ];

    fn value(json: &[u8]) -> Value {
        serde_json::from_slice(json).unwrap()
    }

    fn request(json: Value) -> Result<BindRequest, MessageError> {
        BindRequest::parse(json.to_string().as_bytes())
    }

    #[test]
    fn worked_example_is_read_and_written() {
        for ([request_json, reply_json], url) in [(HTTPS, "https://app.internal"), (TCP, "tcp://db.internal:5432")] {
            let request = BindRequest::parse(request_json.as_bytes()).unwrap();
            assert_eq!(request.requested(None).unwrap().to_string(), url);
            assert_eq!(request.proxy_protocol(), Ok(ProxyProtocol::None));
            assert_eq!(request.traffic_policy(), None);
            assert!(request.unsupported_modules().is_empty());
            assert_eq!(request.extra.bindings, ["internal"]);
            assert_eq!(value(&request.to_json()), value(request_json.as_bytes()));

            let reply = BindReply::parse(reply_json.as_bytes()).unwrap();
            assert_eq!(reply.url, url);
            assert_eq!(reply.error, None);
            assert_eq!(reply.opts, request.echoed_opts(&EndpointUrl::parse(url).unwrap()));
            assert_eq!(value(&reply.to_json()), value(reply_json.as_bytes()));
        }
    }

    #[test]
    fn python_agent_without_domain_and_pooling_is_understood() {
        let request = request(json!({
            "Id": "", "Proto": "https", "ForwardsTo": "x", "ForwardsProto": "",
            "Opts": {"Hostname": "app.internal", "Auth": "", "Subdomain": "", "HostHeaderRewrite": false, "LocalUrlScheme": null, "ProxyProto": 2, "TrafficPolicy": null},
            "Extra": {"Token": "", "IPPolicyRef": "", "Metadata": "", "Bindings": null},
        }))
        .unwrap();
        assert_eq!(request.requested(None).unwrap().to_string(), "https://app.internal");
        assert_eq!(request.proxy_protocol(), Ok(ProxyProtocol::V2));
        assert!(!request.extra.pooling_enabled && request.extra.bindings.is_empty());
    }

    #[test]
    fn protocol_that_does_not_exist_has_its_own_code() {
        let error = request(json!({"Proto": "ssh"})).unwrap_err();
        assert_eq!(error.code(), Some(codes::PROTOCOL_UNSUPPORTED));
        assert_eq!(request(json!({})), Err(MessageError::Missing { field: "Proto" }));
    }

    #[test]
    fn options_of_the_wrong_type_are_refused() {
        for options in [
            json!({"URL": 1}),
            json!({"Domain": []}),
            json!({"TrafficPolicy": {"on_http_request": []}}),
            json!({"ProxyProto": 3}),
            json!({"ProxyProto": "1"}),
            json!([]),
        ] {
            assert!(request(json!({"Proto": "https", "Opts": options})).is_err(), "{options}");
        }
        assert!(request(json!({"Proto": "https", "Opts": null})).is_ok());
        let policy = request(json!({"Proto": "https", "Opts": {"TrafficPolicy": {}}})).unwrap_err();
        assert_eq!(policy.code(), Some(codes::POLICY_INVALID));
    }

    #[test]
    fn modules_are_named_so_that_they_can_be_refused() {
        let request = request(json!({
            "Proto": "https",
            "Opts": {"BasicAuth": {"credentials": [{"username": "u", "cleartext_password": "hunter2"}]}, "Compression": {}, "OAuth": null},
            "Extra": {"IPPolicyRef": "ipp_1"},
        }))
        .unwrap();
        assert_eq!(request.unsupported_modules(), ["Compression", "BasicAuth", "IPPolicyRef"]);
    }

    #[test]
    fn neither_debug_output_has_a_secret() {
        let request = request(json!({
            "Proto": "tls",
            "Opts": {"TLSTermination": {"cert": "hunter1", "key": "hunter2"}, "TrafficPolicy": "client_secret: hunter3"},
            "Extra": {"Token": "hunter4"},
        }))
        .unwrap();
        let reply = BindReply {
            opts: request.opts.clone(),
            extra: BindReplyExtra { token: Secret::new("hunter5"), tunnel_id: String::new() },
            ..BindReply::refused(WireError::new(1, "m"))
        };
        let printed = format!("{request:?} {request:#?} {reply:?}");
        assert!(!printed.contains("hunter") && printed.contains("TLSTermination"), "{printed}");
    }

    #[test]
    fn reply_always_has_what_agents_cannot_do_without() {
        let refused = BindReply::refused(WireError::new(334, "taken"));
        let json = value(&refused.to_json());
        for name in ["Id", "URL", "Error"] {
            assert!(json[name].is_string(), "{name}");
        }
        assert_eq!(json["Proto"], "https");
        assert!(json["Opts"].is_object() && json["Extra"]["Token"].is_string());
        assert_eq!(BindReply::parse(&refused.to_json()), Ok(refused));
    }

    #[test]
    fn reply_without_a_member_that_counts_is_refused() {
        let reply = value(HTTPS[1].as_bytes());
        for name in ["Id", "URL", "Proto", "Opts", "Extra"] {
            for broken in [None, Some(Value::Null), Some(json!(7))] {
                let mut reply = reply.as_object().unwrap().clone();
                match broken {
                    None => reply.remove(name),
                    Some(value) => reply.insert(name.to_owned(), value),
                };
                assert!(BindReply::parse(Value::from(reply).to_string().as_bytes()).is_err(), "{name}");
            }
        }
        assert!(BindReply::parse(br#"{"Id":"","URL":"","Proto":"tcp","Opts":{},"Extra":{}}"#).is_err());
        assert!(BindReply::parse(br#"{"Id":"","URL":"","Proto":"","Opts":{},"Extra":{"Token":""}}"#).is_err());
    }

    #[test]
    fn policy_of_600_kib_passes() {
        let policy = "x".repeat(600 * 1024);
        let request = request(json!({"Proto": "https", "Opts": {"TrafficPolicy": policy}})).unwrap();
        assert_eq!(request.traffic_policy().map(|policy| policy.len()), Some(600 * 1024));
        assert_eq!(BindRequest::parse(&request.to_json()), Ok(request));
    }

    fn scheme() -> impl Strategy<Value = Scheme> {
        prop::sample::select(vec![Scheme::Http, Scheme::Https, Scheme::Tls, Scheme::Tcp])
    }

    fn options() -> impl Strategy<Value = Map<String, Value>> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,9}".prop_map(Value::from)
        ];
        let nested = leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..3)
                    .prop_map(|map| Value::from(map.into_iter().collect::<Map<_, _>>())),
            ]
        });
        prop::collection::btree_map("x.{0,9}", nested, 0..4).prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn request_survives_a_round_trip(
            proto in scheme(), opts in options(), texts in prop::array::uniform8(".{0,9}"),
            bindings in prop::collection::vec(".{0,9}", 0..3), pooling_enabled: bool,
        ) {
            let [id, forwards_to, forwards_proto, token, ip_policy_ref, metadata, name, description] = texts;
            let extra = BindExtra { token: Secret::new(token), ip_policy_ref, metadata, bindings, pooling_enabled, name, description };
            let request = BindRequest { id, proto, forwards_to, forwards_proto, opts, extra };
            prop_assert_eq!(BindRequest::parse(&request.to_json()), Ok(request));
        }

        #[test]
        fn reply_survives_a_round_trip(proto in scheme(), opts in options(), texts in prop::array::uniform4(".{0,9}")) {
            let [id, url, token, tunnel_id] = texts;
            let extra = BindReplyExtra { token: Secret::new(token), tunnel_id };
            let reply = BindReply { id, url, proto, opts, error: None, extra };
            prop_assert_eq!(BindReply::parse(&reply.to_json()), Ok(reply));
        }

        #[test]
        fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (BindRequest::parse(&bytes), BindReply::parse(&bytes));
        }

        #[test]
        fn damaged_messages_do_no_harm(at: prop::sample::Index, byte: u8) {
            for text in HTTPS.into_iter().chain(TCP) {
                let mut bytes = text.as_bytes().to_vec();
                let at = at.index(bytes.len());
                bytes[at] = byte;
                let _ = BindReply::parse(&bytes);
                if let Ok(request) = BindRequest::parse(&bytes) {
                    let _ = (request.requested(Some("example.com")), request.unsupported_modules());
                }
            }
        }
    }
}
