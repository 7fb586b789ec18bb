//! What can be said of an expression's value before there is a request.

use super::compile::Node;
use super::loops::LoopKind;
use super::operators::Operator;
use super::value::Value;
use super::variables::Variable;

impl Variable {
    /// True when members of any name may be asked of it.
    pub(super) fn is_map(self) -> bool {
        matches!(
            self,
            Self::Vars
                | Self::Results
                | Self::Headers
                | Self::Cookies
                | Self::QueryParams
                | Self::MediaParameters
                | Self::ResponseHeaders
                | Self::ResponseCookies
                | Self::ResponseMediaParameters
        )
    }

    /// True for the maps of headers, by names in lower case.
    pub(super) fn is_headers(self) -> bool {
        matches!(self, Self::Headers | Self::ResponseHeaders)
    }

    /// True for the maps from names to all that came under them: under another name came nothing.
    pub(super) fn has_lists(self) -> bool {
        self.is_headers() || matches!(self, Self::Cookies | Self::ResponseCookies | Self::QueryParams)
    }
}

/// What a node is when it can be neither true nor false; nothing when it may be, or when that is not plain to see.
pub(super) fn never_bool(node: &Node) -> Option<&'static str> {
    match node {
        Node::Constant(Value::Bool(_)) => None,
        Node::Constant(value) => Some(value.kind()),
        Node::Secret(_) => Some("a string"),
        Node::Variable(variable) => of_variable(*variable),
        Node::Negate(_) => Some("a number"),
        Node::Binary(operator, ..) => match operator {
            Operator::Add => Some("a sum"),
            Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Modulo => Some("a number"),
            _ => None,
        },
        Node::List(_) => Some("a list"),
        Node::Map(_) => Some("a map"),
        Node::Loop(looped) => match looped.kind {
            LoopKind::Collect(..) | LoopKind::SortBy(_) => Some("a list"),
            LoopKind::All(_) | LoopKind::Exists(_) | LoopKind::ExistsOne(_) => None,
        },
        _ => None,
    }
}

fn of_variable(variable: Variable) -> Option<&'static str> {
    match variable {
        Variable::AgentIsMobile | Variable::AgentIsTablet | Variable::AgentIsDesktop | Variable::AgentIsBot => None,
        Variable::Tls(variable) => (!variable.is_bool()).then_some("a text, a list or a time"),
        variable if variable.is_map() => Some("a map"),
        Variable::ContentEncoding | Variable::ResponseContentEncoding => Some("a list"),
        Variable::ClientPort
        | Variable::ServerPort
        | Variable::EndpointPort
        | Variable::UrlPort
        | Variable::BytesIn
        | Variable::BytesOut
        | Variable::ContentLength
        | Variable::Status
        | Variable::ResponseContentLength => Some("a number"),
        Variable::Began | Variable::HeaderReceived => Some("a timestamp"),
        _ => Some("a string"),
    }
}
