"""Readers of events who do not keep up: they lose events, are told so, and cost neither traffic nor memory."""

import json
import os
import socket
import threading
import time
from pathlib import Path

from failure import expect, expect_equal
from fault import fault
from observed_scenarios import Watched, total
from program import wait_until

# What one wave of agents tells when it comes and again when it goes: as much as can wait to be told at once, and together more than
# readers may be behind.
SITES, ENDPOINTS = 190, 40
EVENTS = SITES * (ENDPOINTS + 1)
FOLLOWERS_MAX = 32
LOST = 'adit_events_lost_total{to="tail"}'
# The events that are kept for whoever is behind, once for all of them, and the records of a wave of sites.
MEMORY_MAX = 24 << 20
HEAD = b"GET /v1/tail HTTP/1.1\r\nHost: localhost\r\n\r\n"


@fault(seconds=150, heavy=True)
def readers_of_events_who_do_not_keep_up_cost_nobody_anything_and_are_told_what_they_lost(case):
    site = Crowded(case)
    site.start(1 << 16)
    # What the first wave leaves behind is there for every other one, too.
    site.wave()
    before, usual = site.memory(), site.time_of_requests()
    slow = SlowReader(site.admin_port)
    stuck = [follower(site.admin_port) for _ in range(FOLLOWERS_MAX - 1)]
    expect(all(is_served(one) for one in stuck), "there is no place for some of them")
    expect(not is_served(follower(site.admin_port)), "there is a place for everybody")
    site.come().stop()
    beside = site.time_of_requests()
    site.wait_for_wave(2)
    expect(beside < usual * 3 + 2, f"requests took {beside:.2f} s beside readers who do not read, and {usual:.2f} s before")
    # Whoever takes nothing loses its place; what it had no chance to read counts as lost.
    others = []
    for _ in stuck:
        others.append(wait_until(lambda: another(site.admin_port), "the place of one who never reads to be free", 30))
    grown = site.memory() - before
    expect(grown < MEMORY_MAX, f"the gateway has grown by {grown} bytes")
    # The slow one is told how many it lost, and has got all the others.
    slow.hurry()
    wait_until(lambda: slow.got + slow.missed >= 2 * EVENTS, "the slow reader to have everything", 30)
    expect_equal(slow.got + slow.missed, 2 * EVENTS, "events that the slow reader got and those it is told it lost")
    expect(slow.missed > 0, "the slow reader has lost nothing")
    lost = total(site.metrics(), LOST)
    expect(lost >= slow.missed, f"{lost} events count as lost, and the slow reader alone lost {slow.missed}")
    print(f"{FOLLOWERS_MAX} readers who do not keep up with {2 * EVENTS} events: the slow one got {slow.got} and lost"
          f" {slow.missed}, {lost:.0f} lost by all; memory +{grown >> 20} MiB; requests {usual:.2f} s, beside them {beside:.2f} s")


class Crowded(Watched):
    """A site beside which many others come and go at once."""

    def __init__(self, case):
        limits = {"logins_per_second_max": 1_000}
        super().__init__(case, limits=limits, events={"settle": "500ms"})

    def start(self, length=1 << 20):
        super().start(length)
        own = 1 + len(self.agent_document()["endpoints"])
        wait_until(lambda: self.told("up") + self.told("online") == own, "the site's own agent to be told of", 20)

    def come(self):
        """All agents log in; returns when all of that is told."""
        usual = json.loads(self.agent_file.read_text()) | {"endpoints": []}
        file = self.scratch.write("files/rig.json", json.dumps(usual), 0o600)
        command = [os.environ["ADIT_RIG"], "agents", file, SITES, "--endpoints", ENDPOINTS, "--seconds", 600]
        before = self.told("up") + self.told("online")
        rig = self.case.program("rig", [*command, "--address", f"127.0.0.1:{self.port}"])
        wait_until(lambda: self.told("up") + self.told("online") >= before + EVENTS, "all sites to be told of", 60)
        return rig

    def wave(self):
        self.come().stop()
        self.wait_for_wave(1)

    def wait_for_wave(self, number):
        """Waits until it is told that all agents have gone again so many times."""
        wait_until(lambda: self.told("down") + self.told("offline") >= number * EVENTS, "all to be told as gone", 60)

    def told(self, what):
        # The log is long by then.
        time.sleep(0.2)
        return self.gateway_logged(0).count(f'.{what}"')

    def memory(self):
        """Bytes of the gateway in RAM."""
        pages = Path(f"/proc/{self.programs['gateway'].pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def time_of_requests(self):
        start = time.monotonic()
        self.ask(500)
        return time.monotonic() - start


class SlowReader:
    """Follows events, some of them a second, until it is told to hurry."""

    def __init__(self, port):
        self.got = self.missed = 0
        self._hurry = threading.Event()
        self._socket = follower(port)
        threading.Thread(target=self._read, daemon=True).start()

    def hurry(self):
        self._hurry.set()

    def _read(self):
        # Chunked: every line is a chunk of its own.
        lines = self._socket.makefile("rb", buffering=1024)
        for line in lines:
            if line.startswith(b"{"):
                event = json.loads(line)
                self.missed += event.get("missed", 0)
                self.got += "type" in event
                self._hurry.wait(0.005)


def follower(port):
    """Somebody who asks for events and has read nothing yet."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", port))
    connection.sendall(HEAD)
    return connection


def is_served(connection):
    """Whether there is a place for it; nothing of the answer is taken."""
    return connection.recv(13, socket.MSG_PEEK).startswith(b"HTTP/1.1 200 ")


def another(port):
    """One more follower if there is a place for it."""
    connection = follower(port)
    if is_served(connection):
        return connection
    connection.close()
    return None
