//! How the agent gets out to the gateway: name servers, interface, segment size, proxy.

use std::net::{IpAddr, SocketAddr};

use super::address::HostPort;
use super::file::TextFile;
use super::no_proxy::is_excepted;
use super::problem::SECRET_SHOWN;
use super::proxy_url::ProxyUrl;
use super::reader::Object;

/// The way to the gateway, where it is not left to the system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressConfig {
    /// The name servers for the gateway's name, at most [`DNS_RESOLVERS_MAX`]; empty for the system's resolver.
    pub dns_resolvers: Vec<SocketAddr>,
    /// The network interface of the connection.
    pub interface: Option<String>,
    /// The largest TCP segment, in bytes of payload.
    pub mss: Option<u32>,
    /// The proxy in front of the gateway.
    pub proxy: Option<ProxyUrl>,
}

/// Reads the keys. `connect` is the gateway, which the environment may except from its proxy.
pub(super) fn read(
    agent: &mut Object<'_>,
    file: &TextFile,
    connect: Option<&HostPort>,
    env: &dyn Fn(&str) -> Option<String>,
) -> EgressConfig {
    EgressConfig {
        dns_resolvers: agent.parsed_list("dns_resolver_ips", DNS_RESOLVERS_MAX, parse_resolver),
        interface: agent.parsed("connect_interface", parse_interface),
        mss: agent.integer("connect_mss", MSS_MIN..=MSS_MAX).and_then(|mss| u32::try_from(mss).ok()),
        proxy: read_proxy(agent, file, connect, env),
    }
}

fn read_proxy(
    agent: &mut Object<'_>,
    file: &TextFile,
    connect: Option<&HostPort>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<ProxyUrl> {
    if let Some(text) = agent.secret("proxy_url") {
        let proxy = match ProxyUrl::parse(&text) {
            Ok(proxy) => proxy,
            Err(error) => {
                agent.secret_problem("proxy_url", error);
                return None;
            }
        };
        if proxy.credentials.is_some() && file.is_read_by_others() {
            agent.warn("proxy_url", "others than the owner can read this file and the password in it: chmod 600");
        }
        return Some(proxy);
    }
    if agent.has("proxy_url") {
        return None;
    }
    from_environment(agent, connect?, env)
}

fn from_environment(agent: &Object<'_>, connect: &HostPort, env: &dyn Fn(&str) -> Option<String>) -> Option<ProxyUrl> {
    let (name, text) = first_set(&PROXY_VARIABLES, env)?;
    if first_set(&NO_PROXY_VARIABLES, env).is_some_and(|(_, list)| is_excepted(connect, &list)) {
        return None;
    }
    match ProxyUrl::parse(&text) {
        Ok(proxy) => {
            agent.reader().warn_in("environment", name, format!("the gateway is reached through the proxy {proxy}"));
            Some(proxy)
        }
        Err(error) => {
            agent.reader().problem_in("environment", name, Some(SECRET_SHOWN.to_owned()), error);
            None
        }
    }
}

fn first_set(names: &[&'static str], env: &dyn Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    names.iter().find_map(|name| Some((*name, env(name).filter(|text| !text.is_empty())?)))
}

/// `192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:5353`.
fn parse_resolver(text: &str) -> Result<SocketAddr, &'static str> {
    let bare = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
    let address = bare.or_else(|_| text.parse::<SocketAddr>());
    match address {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => Err("must be an IP address, or one with a port as in 192.0.2.1:5353 or [2001:db8::1]:5353"),
    }
}

fn parse_interface(text: &str) -> Result<String, &'static str> {
    let fits = (1..=INTERFACE_BYTES_MAX).contains(&text.len());
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if !fits || !plain {
        return Err("must be the name of a network interface such as \"eth1\", of 1 to 15 characters");
    }
    if cfg!(not(any(target_os = "linux", target_os = "android"))) {
        return Err("is not supported on this system: only Linux can bind to an interface; remove it");
    }
    Ok(text.to_owned())
}

/// The environment variables that name a proxy, the first that is set and not empty.
pub const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// The environment variables that except the gateway from it.
pub const NO_PROXY_VARIABLES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// As many as the C library asks: two rounds of questions fit into one look-up.
pub const DNS_RESOLVERS_MAX: usize = 3;

/// RFC 1035, section 4.2.
const DNS_PORT: u16 = 53;

/// IFNAMSIZ of Linux less the closing zero.
const INTERFACE_BYTES_MAX: usize = 15;

/// What every IPv4 host has to take, less the headers (RFC 9293, section 3.7.1).
const MSS_MIN: u64 = 536;

/// Ethernet's 1500 bytes less the headers.
const MSS_MAX: u64 = 1460;
