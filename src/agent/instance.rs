//! What tells this box from others that run the same file, so that the gateway lets the agent replace its own stale
//! session after a crash.
//!
//! Either the file names it (`agent.instance_id`), or it is a hash over the credential and the lowest permanent MAC
//! address. It has to be the same after each start on one box and different on any other; nothing is written anywhere
//! for it. The address and the token themselves never leave the box: the hash cannot be turned back without the token.

use std::fs;
use std::path::Path;

use crate::config::AgentConfig;
use crate::message::Secret;
use crate::tls;

/// An Ethernet address.
type Mac = [u8; 6];

/// The box's own address, read once: a network card that is plugged in later must not change who the agent is.
#[derive(Debug)]
pub(super) struct Instance {
    mac: Option<Mac>,
    told: bool,
}

impl Instance {
    /// Looks at the box's network cards.
    pub(super) fn of_this_box() -> Self {
        Self { mac: lowest_permanent(Path::new(INTERFACES)), told: false }
    }

    /// What the gateway is told; `None` when there is nothing to tell this box by.
    pub(super) fn name(&self, agent: &AgentConfig) -> Option<String> {
        let hashed = || hash(&agent.authtoken, self.mac?);
        agent.instance_id.clone().or_else(hashed)
    }

    /// Logs, once, what it means that there is nothing to tell this box by.
    pub(super) fn warn_without(&mut self, agent: &AgentConfig) {
        if self.name(agent).is_none() && !std::mem::replace(&mut self.told, true) {
            log::warn!(
                "neither agent.instance_id nor a network card with a permanent address tells this box from others: \
                 after a crash the endpoints come back only when the gateway has given the old session up (heartbeat \
                 interval and tolerance); set agent.instance_id to something that no other box has"
            );
        }
    }
}

/// The first half of SHA-256, as hexadecimal digits.
fn hash(token: &Secret, mac: Mac) -> Option<String> {
    let token = token.expose().as_bytes();
    let text = [LABEL, &token.len().to_be_bytes(), token, &mac].concat();
    Some(tls::sha256(&text)?.iter().take(HASH_LEN).map(|byte| format!("{byte:02x}")).collect())
}

/// The lowest of the addresses that network cards were made with, below a folder like `/sys/class/net`.
fn lowest_permanent(interfaces: &Path) -> Option<Mac> {
    let entries = fs::read_dir(interfaces).ok()?;
    let paths = entries.take(INTERFACES_MAX).filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter_map(|interface| permanent(&interface)).min()
}

/// The address of one interface, if it is hardware and the kernel knows the address to be its own. Bridges, tunnels and
/// the like have made theirs up, or borrowed it.
fn permanent(interface: &Path) -> Option<Mac> {
    if !interface.join("device").exists() {
        return None;
    }
    let kind = fs::read_to_string(interface.join("addr_assign_type")).ok()?;
    let mac = parse(fs::read_to_string(interface.join("address")).ok()?.trim())?;
    let is_usable = mac != [0; 6] && mac[0] & MULTICAST == 0;
    (kind.trim() == ADDRESS_PERMANENT && is_usable).then_some(mac)
}

fn parse(text: &str) -> Option<Mac> {
    let mut parts = text.split(':');
    let mut mac = [0; 6];
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// Where Linux shows its network interfaces.
const INTERFACES: &str = "/sys/class/net";

/// Interfaces that are looked at: a router has dozens, a container host hundreds.
const INTERFACES_MAX: usize = 4096;

/// `NET_ADDR_PERM` of the kernel: the address is the hardware's own, neither random nor set nor stolen.
const ADDRESS_PERMANENT: &str = "0";

/// The bit of the first byte that no card's own address has.
const MULTICAST: u8 = 1;

/// Bytes of the hash that are sent: 128 bit, which no two boxes share.
const HASH_LEN: usize = 16;

/// Keeps this hash apart from every other use of the token.
const LABEL: &[u8] = b"adit instance 1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::is_instance;

    fn interface(root: &Path, name: &str, address: &str, assigned: &str, is_hardware: bool) {
        let folder = root.join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("address"), format!("{address}\n")).unwrap();
        fs::write(folder.join("addr_assign_type"), format!("{assigned}\n")).unwrap();
        if is_hardware {
            fs::create_dir(folder.join("device")).unwrap();
        }
    }

    #[test]
    fn lowest_address_that_a_card_was_made_with_counts() {
        let root = tempfile::tempdir().unwrap();
        interface(root.path(), "br-lan", "00:00:5e:00:53:01", "0", false);
        interface(root.path(), "wlan0", "00:00:5e:00:53:02", "3", true);
        interface(root.path(), "usb0", "00:00:5e:00:53:03", "1", true);
        interface(root.path(), "ib0", "00:00:5e:00:53:04:00:00", "0", true);
        interface(root.path(), "odd0", "00:00:00:00:00:00", "0", true);
        interface(root.path(), "odd1", "01:00:5e:00:53:01", "0", true);
        assert_eq!(lowest_permanent(root.path()), None);
        interface(root.path(), "eth1", "00:00:5e:00:53:20", "0", true);
        interface(root.path(), "eth0", "00:00:5e:00:53:1f", "0", true);
        fs::create_dir(root.path().join("half")).unwrap();
        assert_eq!(lowest_permanent(root.path()), Some([0, 0, 0x5e, 0, 0x53, 0x1f]));
        assert_eq!(lowest_permanent(&root.path().join("missing")), None);
    }

    #[test]
    fn hash_depends_on_token_and_address_and_shows_neither() {
        let of = |token: &str, last: u8| hash(&Secret::new(token), [0, 0, 0x5e, 0, 0x53, last]).unwrap();
        let instance = of("adit_site_secret", 0x1f);
        assert!(is_instance(&instance) && instance.len() == 2 * HASH_LEN, "{instance}");
        assert_eq!(instance, of("adit_site_secret", 0x1f));
        assert_ne!(instance, of("adit_site_secret", 0x20));
        assert_ne!(instance, of("adit_site_secreT", 0x1f));
        assert!(!instance.contains("5e00531f"), "{instance}");
    }

    #[test]
    fn addresses_are_six_pairs_of_digits() {
        assert_eq!(parse("00:1a:2B:3c:4d:ff"), Some([0, 0x1a, 0x2b, 0x3c, 0x4d, 0xff]));
        for bad in ["", "00:1a:2b:3c:4d", "00:1a:2b:3c:4d:ff:00", "0:1a:2b:3c:4d:ff", "00:1a:2b:3c:4d:fg", "+0:1a"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
