"""Faults of the network between agent and gateway: packets that vanish, and no word of it to either end."""

import signal
import threading

import stream
from clients import read_exactly, read_to_end, request_stream
from failure import expect, expect_equal
from fault import fault
from link_scenarios import QUICK, Transfer, hold
from netns import AGENT, run

# The agent's defaults, and what a loaded machine may add.
NOTICED_SECONDS = 10 + 15
SLACK_SECONDS = 5
BACK_SECONDS = 30
# So much bulk data passes at most while a keystroke goes there and back: what the kernel holds unsent and in flight,
# frames that are encrypted already, and the queue of the link.
BULK_PER_ROUND_TRIP = 192 << 10


@fault(seconds=180)
def black_hole_is_noticed_and_left_behind(case):
    """Packets vanish in both directions without a RST: the loss is noticed by heartbeat, and the path is used again."""
    site = case.site()
    network = site.across_a_network()
    site.start()
    network.drop()
    noticed = site.wait_for_loss(1, NOTICED_SECONDS + SLACK_SECONDS)
    print(f"the loss was noticed after {noticed:.1f} s")
    network.restore()
    back = site.wait_for_session(2, BACK_SECONDS)
    print(f"a new session was up {back:.1f} s after the path's return")
    site.wait_until_reachable()
    site.exchange()


@fault(seconds=300)
def black_hole_of_two_minutes_is_left_behind_as_fast(case):
    """After two minutes the delay between attempts is at its longest."""
    site = case.site()
    network = site.across_a_network()
    site.start()
    network.drop()
    hold(120)
    network.restore()
    back = site.wait_for_session(2, BACK_SECONDS)
    print(f"a new session was up {back:.1f} s after the path's return")
    site.wait_until_reachable()
    site.exchange()


@fault(seconds=180)
def packets_that_vanish_in_one_direction_are_noticed(case):
    site = case.site(agent=QUICK)
    network = site.across_a_network()
    site.start()
    for session, side in ((2, "near"), (3, "far")):
        network.drop(coming_from=side)
        site.wait_for_loss(session - 1, 2 + 3 + SLACK_SECONDS)
        network.restore()
        site.wait_for_session(session, BACK_SECONDS)
        site.wait_until_reachable(60)
    site.exchange()


@fault(seconds=180)
def changed_address_is_noticed(case):
    """The old address is gone without a word to anybody: by heartbeat there is a session from the new one."""
    site = case.site(agent=QUICK)
    network = site.across_a_network()
    site.start()
    network.move_agent("10.66.1.7")
    site.wait_for_session(2, 2 + 3 + SLACK_SECONDS + BACK_SECONDS)
    site.wait_until_reachable()
    site.exchange()
    expect("address=10.66.1.7:" in site.programs["gateway"].logged(), "the gateway has not seen the new address")


@fault(seconds=180)
def hotplug_signal_uses_a_new_address_at_once(case):
    """With the signal of the hotplug script nobody waits for a heartbeat, and the old session is not in the way."""
    site = case.site()
    network = site.across_a_network()
    site.start()
    network.move_agent("10.66.1.7")
    site.programs["agent"].signal(signal.SIGUSR1)
    # Far less than the 25 s after which the heartbeat would have noticed.
    site.wait_for_session(2, SLACK_SECONDS)
    site.wait_until_reachable()
    site.exchange()


@fault(seconds=240)
def idle_stream_outlives_a_router_that_forgets(case):
    """No byte for 90 s on a path that forgets connections after 20 s: heartbeats keep the link known."""
    site = case.site()
    network = site.across_a_network()
    network.forget_idle_connections(20)
    site.start()
    with site.place("raw").socket(timeout=30) as connection:
        connection.sendall(b"Ebefore")
        expect_equal(read_exactly(connection, 6), b"before", "echo")
        hold(90)
        connection.sendall(b"after")
        expect_equal(read_exactly(connection, 5), b"after", "echo after the idle time")
    expect_equal((site.sessions(), site.losses()), (1, 0), "sessions, and how many were lost")


@fault(seconds=180)
def agent_that_starts_without_a_network_waits_for_it(case):
    """At boot the agent may be first: it keeps trying, and is up soon after the path is."""
    site = case.site()
    network = site.across_a_network()
    network.drop()
    site.start_gateway()
    site.start_upstreams()
    site.start_agent(wait=False)
    site.wait_for_failed_attempt()
    hold(5)
    network.restore()
    site.wait_for_session(1, BACK_SECONDS)
    site.wait_until_reachable()
    site.exchange()


@fault(seconds=180)
def slow_uplink_carries_bulk_beats_and_keystrokes(case):
    """256 kbit/s with a bulk download from behind the agent: no heartbeat is missed, and a second stream lives."""
    bulk_beside_keystrokes(case, download, "far")


@fault(seconds=180)
def slow_downlink_carries_bulk_beats_and_keystrokes(case):
    """The same with a bulk upload to behind the agent."""
    bulk_beside_keystrokes(case, upload, "near")


def bulk_beside_keystrokes(case, transfer, towards):
    site = case.site(agent={"heartbeat_interval": "3s", "heartbeat_tolerance": "7s"})
    network = site.across_a_network()
    network.limit("256kbit")
    site.start(length=16 << 10)
    wrong, between = [], []
    bulk = threading.Thread(target=lambda: wrong.extend(transfer(site, 1 << 20)))
    bulk.start()
    with site.place("raw").socket(timeout=60) as keys:
        keys.sendall(b"E")
        while bulk.is_alive():
            before = network.carried(towards)
            keys.sendall(b"k")
            expect_equal(read_exactly(keys, 1), b"k", "echo of a keystroke")
            between.append(network.carried(towards) - before)
    bulk.join()
    expect_equal(wrong, [], "what was wrong with the bulk data")
    expect_equal((site.sessions(), site.losses()), (1, 0), "sessions, and how many were lost")
    print(f"{len(between)} keystrokes came back; at most {max(between) >> 10} KiB passed meanwhile")
    expect(max(between) < BULK_PER_ROUND_TRIP, f"a keystroke waited for {max(between)} bytes of bulk data")


def download(site, length):
    """What was wrong, in a list."""
    with site.place("raw").socket(timeout=120) as connection:
        request_stream(connection, length)
        seen = read_to_end(connection)
    return [] if seen == (length, stream.digest(length)) else [seen]


def upload(site, length):
    with site.place("raw").socket(timeout=120) as connection:
        connection.sendall(b"A")
        for block in stream.blocks(length):
            connection.sendall(block)
        connection.shutdown(1)
        answer = read_exactly(connection, len(b"%d bytes" % length))
    return [] if answer == b"%d bytes" % length else [answer]


@fault(seconds=180)
def mtu_black_hole_is_probed_around(case):
    """Packets above 1280 bytes vanish, and the ICMP that says so as well; both ends run with tcp_mtu_probing."""
    site = case.site()
    network = site.across_a_network()
    probing = ("sysctl", "-q", "-w", "net.ipv4.tcp_mtu_probing=1")
    run(AGENT, *probing)
    run(None, *probing)
    network.narrow(1280)
    site.start_gateway()
    site.start_upstreams()
    site.start_agent(wait=False)
    site.wait_for_session(1, 60)
    site.wait_until_reachable(60)
    Transfer(site, 2 << 20).join()


@fault(seconds=180, heavy=True)
def loss_on_the_way_up_leaves_every_byte_right(case):
    lossy(case, loss_up=0.03)


@fault(seconds=180, heavy=True)
def loss_on_the_way_down_leaves_every_byte_right(case):
    lossy(case, loss_down=0.03)


def lossy(case, **losses):
    """3 % of the packets of one direction are lost, with 100 ms each way."""
    site = case.site()
    link = site.across_a_bad_link(delay=0.1, **losses)
    site.start()
    transfers = [Transfer(site, 256 << 10) for _ in range(4)]
    for transfer in transfers:
        transfer.join()
    print(f"{link.lost} of {link.lost + link.passed} packets were lost")
    expect(link.lost > 0, "no packet was lost")
    expect_equal((site.sessions(), site.losses()), (1, 0), "sessions, and how many were lost")
