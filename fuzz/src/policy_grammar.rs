//! Policy documents and expressions composed from their grammar, so that most of an input's bytes are decisions about what
//! a document says, and few go into documents that are none.

use serde_json::{Value, json};

use crate::input::Input;

/// Composes from an input. When nothing is left of it, what is composed is as short as can be.
pub struct Composer<'a> {
    input: Input<'a>,
    depth: usize,
}

impl<'a> Composer<'a> {
    /// Composes from these bytes.
    pub fn new(data: &'a [u8]) -> Self {
        Self { input: Input(data), depth: 0 }
    }

    /// A whole document.
    pub fn document(&mut self) -> Value {
        let mut document = serde_json::Map::new();
        for phase in ["on_tcp_connect", "on_http_request", "on_http_response", "inbound"] {
            // The last one is the former name of the second, and there too seldom for a document that has both.
            if self.one_in(if phase == "inbound" { 30 } else { 2 }) {
                let rules: Vec<Value> = (0..1 + self.input.below(4)).map(|_| self.rule(phase)).collect();
                document.insert(phase.to_owned(), rules.into());
            }
        }
        Value::Object(document)
    }

    fn rule(&mut self, phase: &str) -> Value {
        let actions: Vec<Value> = (0..1 + self.input.below(3)).map(|_| self.action(phase)).collect();
        let mut rule = json!({"actions": actions});
        if self.one_in(2) {
            let expressions: Vec<Value> = (0..1 + self.input.below(2)).map(|_| self.condition().into()).collect();
            rule["expressions"] = expressions.into();
        }
        if self.one_in(4) {
            rule["name"] = self.plain().into();
        }
        rule
    }

    fn action(&mut self, phase: &str) -> Value {
        let types: &[&str] = match phase {
            "on_tcp_connect" => &["restrict-ips", "set-vars", "log", "deny", "close-connection", "forward-internal"],
            "on_http_response" => {
                &["add-headers", "set-vars", "log", "remove-headers", "restrict-ips", "custom-response"]
            }
            _ => &[
                "add-headers",
                "set-vars",
                "url-rewrite",
                "log",
                "restrict-ips",
                "rate-limit",
                "basic-auth",
                "remove-headers",
                "redirect",
                "custom-response",
                "deny",
                "forward-internal",
                "close-connection",
            ],
        };
        let kind = self.pick(types);
        let mut action = json!({"type": kind});
        if let Some(config) = self.config(kind) {
            action["config"] = config;
        }
        action
    }

    fn config(&mut self, kind: &str) -> Option<Value> {
        Some(match kind {
            "add-headers" => json!({"headers": self.templates()}),
            "remove-headers" => json!({"headers": [self.header(), self.header()]}),
            "set-vars" => json!({"vars": [self.templates(), self.templates()]}),
            "log" => json!({"metadata": self.templates()}),
            "custom-response" => {
                json!({"status_code": self.status(), "body": self.template(), "headers": self.templates()})
            }
            "deny" => json!({"status_code": self.status()}),
            "redirect" | "url-rewrite" => json!({"from": self.pattern(), "to": self.template()}),
            "restrict-ips" => {
                let mut list = || (0..self.input.below(4)).map(|_| self.network()).collect::<Vec<_>>();
                json!({"allow": list(), "deny": list(), "enforce": self.one_in(2)})
            }
            "rate-limit" => json!({
                "name": self.plain(),
                "algorithm": "sliding_window",
                "capacity": self.input.below(20),
                "rate": "60s",
                "bucket_key": [self.text(), self.text()],
            }),
            "basic-auth" => json!({"credentials": [format!("{}:password-{}", self.plain(), self.plain())]}),
            "forward-internal" => {
                let url =
                    self.pick(&["https://a.internal", "tcp://a.internal:7", "tls://a.internal", "http://${req.host}"]);
                json!({"url": url, "on_error": if self.one_in(2) { "halt" } else { "continue" }})
            }
            _ => return None,
        })
    }

    fn status(&mut self) -> u16 {
        self.pick(&[404, 403, 200, 204, 302, 503, 100, 600])
    }

    fn header(&mut self) -> &'static str {
        self.pick(&["x-a", "x-b", "host", "cookie", "content-type", "authorization", "set-cookie", "X-Mixed-Case"])
    }

    fn network(&mut self) -> String {
        let text =
            self.pick(&["192.0.2.0/24", "10.0.0.0/8", "2001:db8::/32", "::ffff:192.0.2.1", "192.0.2.1", "0.0.0.0/0"]);
        if self.one_in(12) { self.template() } else { text.to_owned() }
    }

    fn pattern(&mut self) -> &'static str {
        self.pick(&["/(.*)", "^/a/(?P<rest>.*)$", "a|b", ".*", "([a-z]+)/([0-9]*)", "(x+x+)+y", "/a%20b/", "("])
    }

    fn templates(&mut self) -> Value {
        let mut map = serde_json::Map::new();
        for _ in 0..1 + self.input.below(2) {
            map.insert(self.header().replace('-', "_"), self.template().into());
        }
        Value::Object(map)
    }

    /// A text with up to three expressions in it.
    pub fn template(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..1 + self.input.below(3) {
            if self.one_in(3) {
                text.push_str(&self.plain());
            } else {
                let value = self.any();
                text.push_str(&format!("${{{value}}}"));
            }
        }
        text
    }

    fn plain(&mut self) -> String {
        self.pick(&["a", "", "Ab c", "\u{e9}\u{20ac}", "/path?x=1", "$1 $uri ${", "\r\n", "x'y\"z\\"]).to_owned()
    }

    fn any(&mut self) -> String {
        match self.input.below(5) {
            0 => self.text(),
            1 => self.number(),
            2 => self.list(),
            3 => self.map(),
            _ => self.condition(),
        }
    }

    /// An expression that is true or false, if it has a value.
    pub fn condition(&mut self) -> String {
        if !self.deeper() {
            return "true".into();
        }
        let text = match self.input.below(16) {
            0 => format!("{} == {}", self.text(), self.text()),
            1 => format!("{} {} {}", self.number(), self.comparison(), self.number()),
            2 => format!("({} && {})", self.condition(), self.condition()),
            3 => format!("({} || {})", self.condition(), self.condition()),
            4 => format!("!({})", self.condition()),
            5 => format!("({}).startsWith({})", self.text(), self.text()),
            6 => format!("({}).matches({:?})", self.text(), self.pattern()),
            7 => format!("{} in {}", self.text(), self.list()),
            8 => format!("{} in {}", self.text(), self.map()),
            9 => format!("({}).{}(it, {})", self.list(), self.quantifier(), self.condition()),
            10 => format!("inCidrRange({}, {:?})", self.text(), self.network()),
            11 => format!("inCidrRanges(conn.client_ip, [{:?}, {:?}])", self.network(), self.network()),
            12 => format!("has({})", self.variable()),
            13 => format!("hasReqHeader({:?}) || hasQueryParam({:?})", self.header(), self.plain()),
            14 => format!("({} ? {} : {})", self.condition(), self.condition(), self.condition()),
            _ => format!("{} {} {}", self.any(), self.comparison(), self.any()),
        };
        self.depth -= 1;
        text
    }

    fn text(&mut self) -> String {
        if !self.deeper() {
            return "'x'".into();
        }
        let text = match self.input.below(18) {
            0 => format!("{:?}", self.plain()),
            1 | 2 => self.variable().to_owned(),
            3 => format!("({} + {})", self.text(), self.text()),
            4 => format!("({}).{}()", self.text(), self.method()),
            5 => format!("({}).replace({}, {})", self.text(), self.text(), self.text()),
            6 => format!("({}).substring({}, {})", self.text(), self.number(), self.number()),
            7 => format!("({}).join({})", self.list(), self.text()),
            8 => format!("string({})", self.any()),
            9 => format!("getReqHeader({:?})[{}]", self.header(), self.number()),
            10 => format!("{:?}.format([{}, {}])", "%s-%d-%.3f-%x%%", self.any(), self.any()),
            11 => format!("base64.{}({})", self.pick(&["encode", "decode"]), self.text()),
            12 => format!("json.encode({})", self.any()),
            13 => format!("hash.sha256({})", self.text()),
            14 => format!("({} ? {} : {})", self.condition(), self.text(), self.text()),
            15 => format!("({})[{}]", self.list(), self.number()),
            16 => format!("({})[{}]", self.map(), self.text()),
            _ => format!("({}).charAt({})", self.text(), self.number()),
        };
        self.depth -= 1;
        text
    }

    fn number(&mut self) -> String {
        if !self.deeper() {
            return "0".into();
        }
        let text = match self.input.below(12) {
            0 | 1 => self.input.below(10).to_string(),
            2 => self
                .pick(&["9223372036854775807", "-9223372036854775808", "18446744073709551615u", "1e308", "-1", "0.5"])
                .to_owned(),
            3 => format!("size({})", self.list()),
            4 => format!("({} {} {})", self.number(), self.pick(&["+", "-", "*", "/", "%"]), self.number()),
            5 => format!("int({})", self.any()),
            6 => format!("-({})", self.number()),
            7 => "conn.client_port".into(),
            8 => format!("({}).indexOf({})", self.text(), self.text()),
            9 => format!("double({})", self.number()),
            10 => format!("time.now.{}()", self.pick(&["getHours", "getFullYear", "getDayOfWeek"])),
            _ => format!("uint({})", self.number()),
        };
        self.depth -= 1;
        text
    }

    fn list(&mut self) -> String {
        if !self.deeper() {
            return "[]".into();
        }
        let text = match self.input.below(11) {
            0 => format!("[{}, {}]", self.any(), self.any()),
            1 => format!("({}).split({})", self.text(), self.text()),
            2 => format!("({}).map(it, {})", self.list(), self.any()),
            3 => format!("({}).filter(it, {})", self.list(), self.condition()),
            4 => format!("lists.range({})", self.pick(&["3", "100", "100000", "-1", "2147483647"])),
            5 => format!("({} + {})", self.list(), self.list()),
            6 => format!("({}).sort()", self.list()),
            7 => format!("({}).slice({}, {})", self.list(), self.number(), self.number()),
            8 => format!("({}).flatten()", self.list()),
            9 => format!("getReqHeader({:?})", self.header()),
            _ => format!("({}).distinct()", self.list()),
        };
        self.depth -= 1;
        text
    }

    fn map(&mut self) -> String {
        if !self.deeper() {
            return "{}".into();
        }
        let text = match self.input.below(6) {
            0 => format!("{{{}: {}}}", self.text(), self.any()),
            1 => "req.headers".into(),
            2 => "req.url.query_params".into(),
            3 => "vars".into(),
            4 => format!("json.decode({})", self.text()),
            _ => "actions.ngrok".into(),
        };
        self.depth -= 1;
        text
    }

    fn variable(&mut self) -> &'static str {
        self.pick(&[
            "req.url",
            "req.url.path",
            "req.host",
            "req.method",
            "conn.client_ip",
            "req.headers['x-a'][0]",
            "vars.x_a",
            "actions.ngrok.restrict_ips.action",
            "endpoint.url",
            "req.url.query_params['x']",
            "req.cookies",
            "req.content_type.parameters",
            "req.user_agent",
            "res.status_code",
            "res.headers['set-cookie']",
            "it",
            "time.now",
            "req.nothing",
        ])
    }

    fn method(&mut self) -> &'static str {
        self.pick(&["lower", "upper", "trim", "reverse", "isPrivateIp", "size"])
    }

    fn quantifier(&mut self) -> &'static str {
        self.pick(&["exists", "all", "exists_one"])
    }

    fn comparison(&mut self) -> &'static str {
        self.pick(&["==", "!=", "<", ">=", ">", "in"])
    }

    fn one_in(&mut self, count: usize) -> bool {
        !self.input.is_empty() && self.input.below(count) == 0
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.input.below(choices.len())]
    }

    /// Goes a level deeper, unless it is deep enough or nothing is left to decide with.
    fn deeper(&mut self) -> bool {
        let may = self.depth < DEPTH_MAX && !self.input.is_empty();
        self.depth += usize::from(may);
        may
    }
}

/// A little more than what the gateway accepts of some kinds of nesting; strings of this depth stay short.
const DEPTH_MAX: usize = 12;
