"""Who an agent is at the gateway: boxes that crash and come back, and boxes that were made from one image."""

import re
import signal

from failure import expect, expect_equal
from fault import fault
from link_scenarios import hold
from netns import TRANSIT, Network, ip, join, make, run
from program import wait_until

# Shows the program that follows one network card with a permanent address, as a router has; veth devices have none.
CARD = (
    "mac=$1; shift; mount -t tmpfs card /sys/class/net && mkdir -p /sys/class/net/eth0/device && "
    'echo 0 > /sys/class/net/eth0/addr_assign_type && echo $mac > /sys/class/net/eth0/address && exec "$@"'
)
FIRST_MAC, SECOND_MAC = "00:00:5e:00:53:01", "00:00:5e:00:53:02"
TWIN = "twin"
# Several attempts, the first of which follow each other fast.
WATCHED_SECONDS = 25
# The gateway asks a silent session for 3 s; the rest is a first delay, and slack for a loaded machine.
AT_ONCE_SECONDS = 12
BACK_SECONDS = 75
BOUND = re.compile(r"bind=(\S+).*endpoint bound|endpoint bound.*bind=(\S+)")
PORT = re.compile(
    Network.agent_address.replace(".", r"\.") + r":(\d+).*session up|session up.*" + r"address=[^ ]*:(\d+)"
)


def card(mac):
    return ["sh", "-c", CARD, "card", mac]


def one_box(case, mac=FIRST_MAC, **agent):
    site = case.site(agent=agent)
    site.agent_prefix = card(mac) if mac else []
    path = site.across_a_network()
    site.start()
    return site, path


def second_box(case, site, mac=SECOND_MAC):
    """Another box with the same file, at another address."""
    make(TWIN)
    join(TWIN, None, "10.66.3.1/24", "10.66.3.254/24", "second")
    ip("route", "add", "default", "via", "10.66.3.254", namespace=TWIN)
    command = ["ip", "netns", "exec", TWIN, *(card(mac) if mac else []), site.binaries["adit"]]
    return case.program("second box", [*command, "run", "--config", site.agent_file])


def gateway_log(site):
    return site.programs["gateway"].logged()


def bind_ids(log):
    return {first or second for first, second in BOUND.findall(log)}


def lost(site):
    """How many sessions and attempts of the first box are over."""
    return site.agent_log().count("no session with")


def sessions_up(site):
    return gateway_log(site).count("session up")


def kill_and_start_again(site):
    """The agent forgets everything, and is back at once."""
    site.signal_inside("agent", signal.SIGKILL)
    site.programs["agent"].wait(10)
    site.start_agent(wait=False)
    back = site.wait_for_session(2, AT_ONCE_SECONDS)
    site.wait_until_reachable()
    print(f"the session was up {back:.1f} s after the start")


@fault(seconds=150)
def two_boxes_from_one_image_with_cards_of_their_own_do_not_fight(case):
    """Same file, same token, another network card: the second is told who has the endpoints, and both stay."""
    site, _ = one_box(case)
    twin = second_box(case, site)
    twin.wait_for_log(f"it is served from {Network.agent_address}:")
    hold(WATCHED_SECONDS)
    expect_equal((site.sessions(), lost(site), sessions_up(site)), (1, 0, 2), "sessions, failures, all sessions")
    site.exchange()


@fault(seconds=240)
def two_boxes_from_one_image_with_one_instance_do_not_fight(case):
    """Same file with an instance in it: the one that is online stays, until it goes; then the other one takes over."""
    site, _ = one_box(case, mac=None, instance_id="box-7", metadata="rack 4")
    twin = second_box(case, site, mac=None)
    twin.wait_for_log(f"another box is online as this one and answers: {Network.agent_address}:")
    expect("instance box-7" in twin.logged() and "rack 4" in twin.logged(), "the refusal does not say who it is")
    hold(WATCHED_SECONDS)
    expect(twin.logged().count("the next attempt follows") >= 2, "the second box does not try again")
    expect_equal((site.sessions(), lost(site), sessions_up(site)), (1, 0, 1), "sessions, failures, all sessions")
    site.exchange()

    site.signal_inside("agent", signal.SIGTERM)
    wait_until(lambda: sessions_up(site) == 2, "the second box to take over", BACK_SECONDS, twin)
    site.start_agent(wait=False)
    wait_until(lambda: "answers: 10.66.3.1:" in site.agent_log(), "the first box to be told of the second", 60)
    expect_equal(sessions_up(site), 2, "sessions in all")


@fault(seconds=150)
def killed_agent_gets_its_endpoints_back_at_once(case):
    site, _ = one_box(case)
    before = bind_ids(gateway_log(site))
    expect_equal(len(before), 2, "bind ids")
    kill_and_start_again(site)
    expect_equal(bind_ids(gateway_log(site)), before, "bind ids")
    site.exchange()


@fault(seconds=150)
def crashed_box_gets_its_endpoints_back_from_its_own_silent_session(case):
    """The power fails: no FIN, no RST. The gateway asks the old session, hears nothing, and lets the box in."""
    site, _ = one_box(case)
    before = bind_ids(gateway_log(site))
    # Nothing of the old connection gets through any more, as if its kernel were gone.
    port = next(first or second for first, second in PORT.findall(gateway_log(site)))
    for direction in ("sport", "dport"):
        run(TRANSIT, "nft", "add", "rule", "ip", "faults", "forward", "tcp", direction, port, "drop")
    kill_and_start_again(site)
    expect("the agent has connected again" in gateway_log(site), "the old session was not there any more")
    expect_equal(bind_ids(gateway_log(site)), before, "bind ids")
    expect_equal(lost(site), 0, "attempts that failed")
    site.exchange()
