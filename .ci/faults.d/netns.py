"""Network namespaces joined by veth, below the scenario's own, and a path on which packets vanish.

    agent's namespace ── 10.66.1.0/24 ── transit ── 10.66.2.0/24 ── the scenario's namespace (gateway, visitors)

Only the transit namespace drops: both ends keep their addresses, routes and carrier, and get no answer of any kind.
"""

import contextlib
import ctypes
import json
import os
import subprocess

AGENT, TRANSIT = "agent", "transit"
CLONE_NEWNET = 0x4000_0000
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*arguments, namespace=None):
    """`ip ARGUMENT…`, in a namespace."""
    _run("ip", *(["-n", namespace] if namespace else []), *arguments)


def run(namespace, *command, text=None):
    """Any command in a namespace, with `text` as its input."""
    _run(*(["ip", "netns", "exec", namespace] if namespace else []), *command, text=text)


def _run(*command, text=None):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, input=text, timeout=30)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(map(str, command))}` failed: {done.stderr.strip()}")
    return done.stdout


def make(namespace):
    """A namespace with nothing in it but a loopback that is up."""
    ip("netns", "add", namespace)
    ip("link", "set", "lo", "up", namespace=namespace)


def join(near, far, near_address, far_address, device):
    """A veth pair: `device` in both namespaces, each with its address (`10.0.0.1/24`); None is the scenario's own."""
    near_at = ["netns", near] if near else []
    far_at = ["netns", far] if far else []
    ip("link", "add", device, *near_at, "type", "veth", "peer", "name", device, *far_at)
    for namespace, address in ((near, near_address), (far, far_address)):
        ip("addr", "add", address, "dev", device, namespace=namespace)
        ip("link", "set", device, "up", namespace=namespace)


@contextlib.contextmanager
def inside(namespace):
    """What this thread opens within belongs to the namespace, and stays there. Threads started within stay, too."""
    if namespace is None:
        yield
        return
    with open("/proc/thread-self/ns/net", "rb") as home, open(f"/run/netns/{namespace}", "rb") as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(descriptor):
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns: " + os.strerror(ctypes.get_errno()))


class Network:
    """The way between the agent and the gateway."""

    agent_namespace = AGENT
    agent_address = "10.66.1.1"
    gateway_address = "10.66.2.1"

    def __init__(self):
        make(AGENT)
        make(TRANSIT)
        join(AGENT, TRANSIT, "10.66.1.1/24", "10.66.1.254/24", "near")
        join(TRANSIT, None, "10.66.2.254/24", "10.66.2.1/24", "far")
        ip("route", "add", "default", "via", "10.66.1.254", namespace=AGENT)
        ip("route", "add", "10.66.1.0/24", "via", "10.66.2.254")
        run(TRANSIT, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        run(TRANSIT, "nft", "-f", "-", text=RULES)

    def drop(self, coming_from=None):
        """From now on nothing gets through, from one side (`near` the agent, or `far`) or from both; nobody is told."""
        source = ["iifname", coming_from] if coming_from else []
        run(TRANSIT, "nft", "add", "rule", "ip", "faults", "forward", *source, "drop")

    def restore(self):
        run(TRANSIT, "nft", "flush chain ip faults forward")

    def limit(self, rate, latency="400ms"):
        """Both directions get `rate` (`256kbit`), with a queue of at most `latency` in front of it."""
        for device in ("near", "far"):
            tbf = ["tbf", "rate", rate, "burst", "4kb", "latency", latency]
            run(TRANSIT, "tc", "qdisc", "replace", "dev", device, "root", *tbf)

    def forget_idle_connections(self, seconds):
        """The router keeps track of connections, forgets those without a packet for so long, and drops what it does not
        know: what NAT at home and in mobile networks does."""
        for name, value in {"tcp_timeout_established": seconds, "tcp_loose": 0}.items():
            run(TRANSIT, "sysctl", "-q", "-w", f"net.netfilter.nf_conntrack_{name}={value}")
        run(TRANSIT, "nft", "add rule ip faults forward ct state invalid drop")

    def move_agent(self, address):
        """The agent's network gives it another address, and knows the old one no more."""
        ip("addr", "flush", "dev", "near", namespace=AGENT)
        ip("addr", "add", f"{address}/24", "dev", "near", namespace=AGENT)
        ip("route", "add", "default", "via", "10.66.1.254", namespace=AGENT)

    def carried(self, towards):
        """Bytes that went out so far towards the agent (`near`) or the gateway (`far`)."""
        shown = _run("ip", "-n", TRANSIT, "-s", "-j", "link", "show", "dev", towards)
        return json.loads(shown)[0]["stats64"]["tx"]["bytes"]

    def narrow(self, mtu):
        """Packets above `mtu` bytes vanish on the way, and no ICMP says so; both ends believe in 1500 bytes."""
        run(TRANSIT, "nft", "add rule ip faults output meta l4proto icmp drop")
        for device in ("near", "far"):
            ip("link", "set", "dev", device, "mtu", mtu, namespace=TRANSIT)


RULES = """
table ip faults {
    chain forward { type filter hook forward priority 0; policy accept; }
    chain output { type filter hook output priority 0; policy accept; }
}
"""
