"""One gateway and one agent for one scenario, with whatever lies between them."""

import os
import re
import time
from pathlib import Path

import stream
from authority import Authority
from clients import fetch, read_exactly, read_to_end, request_stream
from failure import Failure, expect_equal
from files import DOMAIN, Files
from netns import Network, inside
from program import Program, wait_until
from proxy import Proxy
from raw import Raw
from tun_link import TunLink
from web import Web

SCHEMES = {"web": "https", "raw": "tcp"}
# How the agent's log says that a session begins, that one is over, and that an attempt has come to nothing. The last
# alone may be said less often than it happens.
UP = re.compile(r'session=\d+ .*msg="up at ')
LOST = re.compile(r'msg="no session with .*, after \d+ s')
FAILED = 'msg="no session with '


class Site(Files):
    """Settings go into `agent` and `gateway` (keys of the agent's section, top-level keys of the gateway's file)."""

    name = "faults"

    def __init__(self, case, agent=None, gateway=None):
        super().__init__(case.scratch, case.binaries, None)
        self.case = case
        self.agent = dict(agent or {})
        self.gateway = gateway or {}
        # In front of the agent's command: a network namespace, limits, another clock.
        self.agent_prefix = []
        self.gateway_prefix = []
        self.agent_environment = {}
        # The network namespace of the agent and its upstreams.
        self.router = None
        self.prepare()

    def prepare(self):
        super().prepare()
        self._held = []

    def certificate_files(self):
        """The gateway's certificate and its key."""
        return self._certificate, self._key

    def names_of(self, scheme):
        return [name for name, kind in SCHEMES.items() if kind == scheme]

    def through_proxy(self, **options):
        """The agent connects through a TCP proxy that does what the scenario tells it."""
        proxy = Proxy(("127.0.0.1", self.port), **options)
        self.case.at_end(proxy.stop)
        self.connect_url = f"{self.connect_name}:{proxy.port}"
        return proxy

    def across_a_network(self):
        """The agent and its upstreams live in a namespace of their own, behind a router that drops what it is told."""
        path = Network()
        self.behind(path.agent_namespace, path.gateway_address)
        return path

    def across_a_bad_link(self, **options):
        """The agent and its upstreams live in a namespace of their own, at the end of a link that loses packets."""
        link = TunLink(**options)
        self.case.at_end(link.stop)
        self.behind(link.agent_namespace, link.gateway_address)
        return link

    def behind(self, namespace, gateway_address):
        """The agent and its upstreams live in `namespace`, and reach the gateway by its address."""
        self.router = namespace
        self.agent_prefix = ["ip", "netns", "exec", namespace, *self.agent_prefix]
        self.address = "0.0.0.0"
        self.connect_name = f"connect.{DOMAIN}"
        self.connect_url = f"{self.connect_name}:{self.port}"
        _add_host(gateway_address, self.connect_name)

    def gateway_document(self):
        return super().gateway_document() | self.gateway

    def agent_document(self):
        document = super().agent_document()
        document["endpoints"] = [entry for entry in document["endpoints"] if entry["name"] in SCHEMES]
        document["agent"] |= self.agent
        return document

    def start(self, length=1 << 20):
        """Returns when the endpoints can be reached, and `length` bytes have come through them."""
        self.start_gateway()
        self.start_upstreams()
        self.start_agent()
        self.exchange(length)

    def start_upstreams(self):
        with inside(self.router):
            self.upstreams = Local(self.scratch)
        self.case.at_end(self.upstreams.stop)

    def start_gateway(self):
        self.write_gateway()
        command = [*self.gateway_prefix, self.binaries["adit-gateway"], "run", "--config", self.gateway_file]
        self.launch("gateway", command)
        self.programs["gateway"].wait_for_log("the gateway is ready")

    def start_agent(self, wait=True):
        """Starts the agent; with `wait`, returns when a request gets through."""
        self.write_agent()
        self.launch(
            "agent",
            [*self.agent_prefix, self.binaries["adit"], "run", "--config", self.agent_file],
            {"SSL_CERT_FILE": str(self.upstreams.authority.certificate), **self.agent_environment},
        )
        if wait:
            self.wait_until_reachable()

    def launch(self, name, command, environment=None):
        """Starts the site's program of this name, or starts it again."""
        if name not in self.programs:
            self.case.at_end(lambda: self.programs[name].stop())
        self.programs[name] = Program(name, command, self.scratch, env=environment)

    def signal_inside(self, name, number):
        """Signals the program itself where its prefix is a process that stays in front of it."""
        pid = self.programs[name].pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(children[0]) if children else pid, number)

    def agent_descriptors(self):
        """How many files and sockets the agent has open."""
        return len(os.listdir(f"/proc/{self.programs['agent'].pid}/fd"))

    def agent_log(self):
        return self.programs["agent"].logged()

    def sessions(self):
        """How many sessions have come up so far."""
        return len(UP.findall(self.agent_log()))

    def losses(self):
        """How many sessions have ended so far, unless the agent was told to end them."""
        return len(LOST.findall(self.agent_log()))

    def wait_for_session(self, number, seconds=60):
        """Waits for the agent's session of this number, from 1; returns how long that took."""
        return self._wait(lambda: self.sessions() >= number, f"session {number} to come up", seconds)

    def wait_for_loss(self, number, seconds=60):
        """Waits until that many sessions are over; returns how long that took."""
        return self._wait(lambda: self.losses() >= number, f"{number} sessions to be over", seconds)

    def wait_for_failed_attempt(self, seconds=60):
        """Waits until at least one attempt at a session has come to nothing."""
        return self._wait(lambda: FAILED in self.agent_log(), "an attempt to fail", seconds)

    def _wait(self, condition, what, seconds):
        start = time.monotonic()
        wait_until(condition, what, seconds, self.programs["agent"])
        return time.monotonic() - start

    def exchange(self, length=1 << 20):
        """A request, and bytes with a checksum both ways: fails on the first wrong or missing one."""
        expect_equal(fetch(self.place("web"), "/hello").body, b"hello from the upstream\n", "the body of a request")
        self.download(length)
        with self.place("raw").socket() as connection:
            connection.sendall(b"Eping")
            expect_equal(read_exactly(connection, 4), b"ping", "echo")

    def download(self, length, seconds=60):
        """Bytes of the raw upstream, checked."""
        with self.place("raw").socket(timeout=seconds) as connection:
            request_stream(connection, length)
            expect_equal(read_to_end(connection), (length, stream.digest(length)), "what a download brought")

    def is_reachable(self):
        try:
            return fetch(self.place("web"), "/hello", seconds=5).status == 200
        except Failure:
            return False


class Local:
    """What is behind the agent; made in its network namespace."""

    def __init__(self, scratch):
        self.authority = Authority("upstream", scratch)
        self.web, self.raw = Web(), Raw()

    def targets(self):
        ports = {"web": f"http://127.0.0.1:{self.web.port}", "raw": f"tcp://127.0.0.1:{self.raw.port}"}
        return {name: (SCHEMES[name], url) for name, url in ports.items()}

    def stop(self):
        self.web.stop()
        self.raw.stop()


def _add_host(address, name):
    # A file of the scenario's own, mounted over the machine's.
    with open("/etc/hosts", "a") as hosts:
        hosts.write(f"{address} {name}\n")
