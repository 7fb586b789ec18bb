"""Five hundred sites at one gateway: what its operator sees and is told. `ADIT_RIG` has the simulated agents."""

import base64
import http.client
import itertools
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from datetime import datetime
from pathlib import Path

from failure import expect, expect_equal
from fault import fault
from observed_scenarios import Watched
from program import wait_until
from receiver import Receiver
from served import Served

SITES, ENDPOINTS, SETTLE = 500, 2, 2
# How many events wait for a webhook.
WAITING_MAX = 1000
SHOWN_MS_MAX = 100


@fault(seconds=150, heavy=True)
def fleet_of_500_is_shown_at_once_and_one_site_that_is_cut_off_is_told_of(case):
    fleet = Fleet(case)
    fleet.start()
    # With the end of the gateway's own certificate: more than can wait while nobody takes any. What is lost is counted.
    own = len(fleet.agent_document()["endpoints"])
    events = 1 + (SITES + 1) + (SITES * ENDPOINTS + own)
    wait_until(lambda: fleet.published() == events, f"{events} events", 60)
    fleet.receiver.ways = itertools.repeat("take")
    wait_until(lambda: fleet.told() + fleet.lost() >= events, f"{events} events to be told or counted", 60)
    expect_equal((fleet.told(), fleet.lost()), (WAITING_MAX, events - WAITING_MAX), "events that were told and lost")
    fleet.is_shown_within(SHOWN_MS_MAX)
    fleet.receiver.forget()

    cut = time.time()
    fleet.path.drop()
    down = fleet.receiver.next(60, "site.down")
    since = instant(down["data"]["since"])
    expect_equal(down["data"]["instance"], fleet.instance, "the site that is told of")
    expect(since > cut, f"it is told of before it was cut off: {down}")
    waited = down["arrived"] - since
    expect(SETTLE <= waited < SETTLE + 2, f"told {waited:.2f} s after it was offline, and not {SETTLE} s: {down}")
    fleet.path.restore()
    fleet.receiver.next(60, "site.up")

    fleet.receiver.forget()
    # No more often: the agent waits longer each time, and would settle offline.
    for number in range(3):
        fleet.kick(number)
    flapping, steady = (fleet.receiver.next(60, kind) for kind in ("site.flapping", "site.steady"))
    expect_equal(flapping["data"]["instance"], fleet.instance, "the site that comes and goes")
    # The cut of before may still count.
    expect(flapping["data"]["count"] == 3 and steady["data"]["count"] in (3, 4), f"how often it went away: {steady}")
    expect("is online" in steady["data"]["text"], f"how it settled: {steady}")
    sites = [each["data"] for each in fleet.receiver.told if each["type"].startswith("site.")]
    expect([site["type"] for site in sites] == ["site.flapping", "site.steady"], f"all that was told of sites: {sites}")
    expect_equal(fleet.receiver.wrong, [], "deliveries whose signature or time is wrong")


class Fleet(Watched):
    """The sites are in one process but for one, which is a real agent at the end of a network that can be cut."""

    instance = "real"

    def __init__(self, case):
        self.receiver = Receiver()
        self.receiver.ways = itertools.repeat("refuse")
        served = Served(self.receiver.handler())
        case.at_end(served.stop)
        secret = f"whsec_{base64.b64encode(self.receiver.key).decode()}\n"
        file = case.scratch.write("files/webhook.secret", secret, 0o600)
        webhook = {"url": f"http://127.0.0.1:{served.port}/events", "secret_file": str(file), "timeout": "2s"}
        limits = {"logins_per_second_max": 1_000}
        super().__init__(case, limits=limits, events={"settle": f"{SETTLE}s", "webhook": webhook})
        # The path of a socket has to be short.
        folder = tempfile.mkdtemp(prefix="adit-", dir="/run")
        case.at_end(lambda: shutil.rmtree(folder))
        self.socket = Path(folder) / "admin.sock"
        self.gateway["admin"]["socket"] = str(self.socket)
        self.agent |= {"instance_id": self.instance, "heartbeat_interval": "1s", "heartbeat_tolerance": "3s"}
        self.path = self.across_a_network()

    def start(self):
        super().start(1 << 16)
        # Only the real one is noticed soon when it is silent: the others may be slow on a busy machine.
        usual = json.loads(self.agent_file.read_text())
        usual["agent"] = {key: value for key, value in usual["agent"].items() if key not in self.agent}
        file = self.scratch.write("files/rig.json", json.dumps(usual), 0o600)
        command = [os.environ["ADIT_RIG"], "agents", file, SITES, "--endpoints", ENDPOINTS, "--seconds", 600]
        rig = self.case.program("rig", [*command, "--address", f"127.0.0.1:{self.port}"])
        rig.wait_for_log('"up"', 60)

    def published(self):
        """Events of sites, endpoints and certificates in the log."""
        return len(re.findall(r'event="(?:site|endpoint|certificate)\.', self.gateway_logged(0)))

    def told(self):
        return len(self.receiver.told)

    def lost(self):
        return sum(each["lost"] for each in list(self.receiver.told))

    def is_shown_within(self, milliseconds):
        """By the command, its start included, and on the socket."""
        command = [self.binaries["adit-gateway"], "sites", "--json", "--socket", self.socket]
        by_command, by_socket = [], []
        for _ in range(9):
            start = time.monotonic()
            printed = subprocess.run(command, check=True, capture_output=True, timeout=30).stdout
            by_command.append(time.monotonic() - start)
            online = sum(site["state"] == "online" for site in json.loads(printed)["sites"])
            expect_equal(online, SITES + 1, "sites that are online")
            start = time.monotonic()
            self.ask_admin("GET", "/v1/sites")
            by_socket.append(time.monotonic() - start)
        for what, times in {"the command": by_command, "the socket": by_socket}.items():
            median = statistics.median(times) * 1000
            print(f"{SITES + 1} sites by {what}: {median:.1f} ms, at most {max(times) * 1000:.1f} ms")
            expect(median < milliseconds, f"{what} takes {median:.1f} ms to show {SITES + 1} sites")

    def kick(self, number):
        """Ends the real agent's session, and waits for the next one."""
        before = self.sessions()
        answer = json.loads(self.ask_admin("POST", f"/v1/kick?instance={self.instance}"))
        expect_equal(len(answer["sessions"]), 1, f"sessions that kick {number} has ended")
        self.wait_for_session(before + 1)

    def ask_admin(self, method, path):
        connection = Admin("localhost", timeout=10)
        connection.path = str(self.socket)
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        expect_equal(answer.status, 200, f"status of {path}: {body[:500]}")
        return body


class Admin(http.client.HTTPConnection):
    """HTTP on a Unix socket."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def instant(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
