"""The way out: which interface, which address, which name server, as a router with several lines has them."""

import signal
import subprocess

from failure import expect, expect_equal
from files import DOMAIN

from fault import fault
from fault_site import FAILED
from link_scenarios import QUICK, hold
from names import Names
from netns import AGENT, TRANSIT, ip, join, run

BACK_SECONDS = 30
CONNECT_NAME = f"connect.{DOMAIN}"
SPARE_ADDRESS = "10.66.3.1"
# Addresses of the documentation prefix: nobody is there.
GATEWAY_V6 = "2001:db8:99::1"


@fault(seconds=120)
def connection_keeps_to_its_interface(case):
    """Two lines, the better route over the one: the agent leaves by the other, also when that was away for a while."""
    site = case.site(agent={"connect_interface": "spare", **QUICK})
    site.across_a_network()
    spare_line()
    site.start()
    expect_equal(leaves_by(site), [SPARE_ADDRESS], "where the connection leaves")
    # Unplugged: the other line would do, and is not taken.
    ip("link", "set", "spare", "down", namespace=AGENT)
    site.wait_for_loss(1)
    hold(3)
    expect_equal(site.sessions(), 1, "sessions")
    plug_in()
    # As a hotplug script says it.
    site.programs["agent"].signal(signal.SIGUSR1)
    site.wait_for_session(2, BACK_SECONDS)
    expect_equal(leaves_by(site), [SPARE_ADDRESS], "where the connection leaves")
    site.wait_until_reachable()
    site.exchange()


@fault(seconds=120)
def interface_that_comes_later_is_waited_for(case):
    site = case.site(agent={"connect_interface": "spare"})
    site.across_a_network()
    site.start_gateway()
    site.start_upstreams()
    site.start_agent(wait=False)
    site.wait_for_failed_attempt()
    expect("there is no such interface now" in site.agent_log(), "the log does not say what is missing")
    spare_line()
    site.wait_for_session(1, BACK_SECONDS)
    site.wait_until_reachable()


@fault(seconds=120)
def broken_ipv6_costs_a_moment(case):
    """The name has an IPv6 address too, tried first, and its packets vanish: the first attempt succeeds all the same."""
    site = case.site(agent={"dns_resolver_ips": ["10.66.2.1"], "connect_timeout": "60s"})
    site.across_a_network()
    ip("addr", "add", "2001:db8:66::1/64", "dev", "near", "nodad", namespace=AGENT)
    neighbour = ("2001:db8:66::254", "lladdr", "02:00:00:00:00:01", "dev", "near", "nud", "permanent")
    ip("neigh", "add", *neighbour, namespace=AGENT)
    ip("-6", "route", "add", "default", "via", "2001:db8:66::254", "dev", "near", namespace=AGENT)
    names = Names({CONNECT_NAME: ["10.66.2.1"]}, "10.66.2.1", addresses_v6={CONNECT_NAME: [GATEWAY_V6]})
    case.at_end(names.stop)
    site.start_gateway()
    site.start_upstreams()
    site.start_agent(wait=False)
    took = site.wait_for_session(1, 20)
    print(f"the session was up after {took:.1f} s")
    expect(names.asked >= 2, "the name server was not asked")
    expect(FAILED not in site.agent_log(), "an attempt failed")
    site.wait_until_reachable()


@fault(seconds=120)
def name_servers_that_vanish_leave_the_last_good_address(case):
    """The WAN flaps, and comes back without a name server: the agent goes where it was."""
    site = case.site(agent={"dns_resolver_ips": ["10.66.2.1"], **QUICK})
    path = site.across_a_network()
    names = Names({CONNECT_NAME: ["10.66.2.1"]}, "10.66.2.1")
    case.at_end(names.stop)
    site.start()
    names.silent = True
    path.drop()
    site.wait_for_loss(1)
    path.restore()
    back = site.wait_for_session(2, BACK_SECONDS)
    print(f"a new session was up {back:.1f} s after the path's return")
    expect("trying where it was the last time: 10.66.2.1" in site.agent_log(), "the log does not say where it goes")
    site.wait_until_reachable()


def spare_line():
    """A second line of the router, behind the first one in its routes."""
    run(AGENT, "sysctl", "-q", "-w", "net.ipv4.conf.all.rp_filter=2")
    join(AGENT, TRANSIT, f"{SPARE_ADDRESS}/24", "10.66.3.254/24", "spare")
    ip("route", "add", "10.66.3.0/24", "via", "10.66.2.254")
    plug_in()


def plug_in():
    ip("link", "set", "spare", "up", namespace=AGENT)
    ip("route", "add", "default", "via", "10.66.3.254", "dev", "spare", "metric", "200", namespace=AGENT)


def leaves_by(site):
    """Local addresses of the agent's connections to the gateway."""
    command = ["ip", "netns", "exec", AGENT, "ss", "-Htn", "state", "established", "dport", "=", f":{site.port}"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    return [line.split()[2].rsplit(":", 1)[0].split("%")[0] for line in lines]
