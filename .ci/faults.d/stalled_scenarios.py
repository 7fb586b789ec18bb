"""Upstreams that stand still, under as many visitors at once as the protocol has streams."""

import contextlib
import resource
import selectors
import socket
import struct
import time
from pathlib import Path

from clients import read_exactly
from failure import expect, expect_equal
from fault import fault
from program import wait_until

STALLED = 512
# More than the kernels and the windows on the way of one visitor take.
UPLOAD = 2 << 20
BLOCK = bytes(64 << 10)
# Whoever is drained waits for a turn, and never for those who are not: seconds are for a machine that is busy.
PROMPT_SECONDS = 5
# Nothing has moved for so long: everybody has sent what is taken off him.
STILL_SECONDS = 2
# Beside the budget: the table of streams, and what the allocator has in use for bookkeeping.
SLACK = 2 << 20


@fault(seconds=240, heavy=True)
def stalled_streams_within_the_budget_all_stay_and_the_next_one_is_served(case):
    """512 visitors of an upstream that reads nothing, all of them still there: who comes then is served at once."""
    site = site_of_many(case, "64MiB")
    crowd = Crowd(site)
    steady = Steady(site)
    crowd.fill(steady)
    expect_equal(crowd.lost, 0, "visitors that were turned away or aborted")
    expect(not crowd.has_sent_all(), "somebody does not stand still")
    Steady(site).exchange()
    finish(site, crowd, steady)


@fault(seconds=240, heavy=True)
def stalled_streams_beyond_the_budget_leave_it_whole_and_the_others_their_turns(case):
    """The same with the default budget, a quarter of what their windows are: some of them give way, and nobody else."""
    budget = 8 << 20
    site = site_of_many(case, "8MiB")
    steady = Steady(site)
    steady.exchange()
    idle = anonymous_bytes(site)
    crowd = Crowd(site)
    crowd.fill(steady)
    grown = anonymous_bytes(site) - idle
    print(f"{crowd.lost} of {STALLED} visitors gave way; the agent has grown by {grown >> 10} KiB")
    expect(grown <= budget + SLACK, f"the agent has grown by {grown} bytes, with a budget of {budget}")
    finish(site, crowd, steady)


def site_of_many(case, memory_max):
    """One that bears the crowd, as far as descriptors and the gateway's limits are concerned."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    limits = {"streams_per_session_max": 2 * STALLED}
    site = case.site(agent={"memory_max": memory_max}, gateway={"limits": limits})
    site.start()
    return site


def finish(site, crowd, steady):
    """Nothing is left of the crowd, and the session was the same all the time."""
    print(f"the slowest exchange beside {STALLED} stalled streams took {steady.slowest:.2f} s")
    expect(steady.slowest < PROMPT_SECONDS, f"an exchange took {steady.slowest:.1f} s")
    crowd.leave()
    wait_until(lambda: is_served(site), "a newcomer to be served when the crowd has left", 30)
    site.exchange()
    expect_equal((site.sessions(), site.losses()), (1, 0), "sessions, and how many were lost")


def is_served(site):
    """Whether somebody who comes now is; the agent may not have heard yet that others have left."""
    try:
        Steady(site).exchange()
    except ConnectionError:
        return False
    return True


class Steady:
    """A visitor of a service that does read."""

    def __init__(self, site):
        self.slowest = 0.0
        self._connection = site.place("raw").socket(timeout=60)
        site.case.at_end(self._connection.close)
        self._connection.sendall(b"E")

    def exchange(self):
        block = bytes(range(256)) * 64
        start = time.monotonic()
        self._connection.sendall(block)
        expect(read_exactly(self._connection, len(block)) == block, "the echo is another one")
        self.slowest = max(self.slowest, time.monotonic() - start)


class Crowd:
    """Visitors that send, each to a connection of an upstream that reads nothing."""

    def __init__(self, site):
        self.lost = 0
        self._left = {}
        for _ in range(STALLED):
            visitor = site.place("raw").socket(timeout=60)
            # What waits on the visitor's own machine is no matter of the agent's.
            visitor.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 10)
            visitor.sendall(b"S")
            visitor.setblocking(False)
            self._left[visitor] = UPLOAD
        site.case.at_end(self.leave)

    def fill(self, steady):
        """Sends until nothing moves any more, and lets `steady` exchange something all the while."""
        moved = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for visitor in self._left:
                selector.register(visitor, selectors.EVENT_WRITE)
            while time.monotonic() - moved < STILL_SECONDS:
                for key, _ in selector.select(timeout=0.1):
                    before = self._left[key.fileobj]
                    if not self._send(key.fileobj):
                        selector.unregister(key.fileobj)
                    if self._left[key.fileobj] != before:
                        moved = time.monotonic()
                steady.exchange()

    def _send(self, visitor):
        """False when there is nothing to do for this one any more."""
        try:
            self._left[visitor] -= visitor.send(BLOCK[: self._left[visitor]])
        except BlockingIOError:
            return True
        except ConnectionError:
            self.lost += 1
            return False
        return self._left[visitor] > 0

    def has_sent_all(self):
        return 0 in self._left.values()

    def leave(self):
        for visitor in self._left:
            with contextlib.suppress(OSError):
                # An end would stand behind what nobody takes.
                visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                visitor.close()


def anonymous_bytes(site):
    """Memory that the agent has for itself."""
    status = Path(f"/proc/{site.programs['agent'].pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(line.split()[1]) << 10
