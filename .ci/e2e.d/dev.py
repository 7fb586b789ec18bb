"""`adit-gateway dev`: one command, no file; a second agent joins it for what its command line cannot say."""

import json
import signal
import subprocess
import threading
from pathlib import Path
from queue import Empty, Queue
from urllib.parse import urlsplit

from clients import Place
from deployment import Deployment, Spot
from failure import Failure, expect_equal
from program import Program

# Served by dev's own agent; the others by an agent that joins it.
OWN_TARGETS = ("web", "sealed", "raw", "postgres", "rawdown")


class Dev(Deployment):
    name = "dev"

    def start(self):
        targets = self.upstreams.targets()
        arguments = [part for name in OWN_TARGETS for part in ("--upstream", f"{name}={_upstream(targets[name])}")]
        gateway = Program(
            "dev",
            [self.binaries["adit-gateway"], "dev", "--ready-json", *arguments],
            self.scratch,
            env={"TMPDIR": str(self.scratch.path("dev-tmp", "x").parent)},
            stdout=subprocess.PIPE,
        )
        self.programs["gateway"] = gateway
        ready = json.loads(_first_line(gateway, 30))
        self.connect_url, self.authtoken = ready["connect_url"], ready["authtoken"]
        self.ca_file = Path(ready["ca_file"])
        self._ports = {kind: urlsplit(f"//{ready[kind]}").port for kind in ("https", "http", "tls")}
        urls = [(urlsplit(endpoint["url"]), urlsplit(endpoint["forwards_to"])) for endpoint in ready["endpoints"]]
        self._tcp_ports = {upstream.port: url.port for url, upstream in urls if url.scheme == "tcp"}
        others = {name: target for name, target in targets.items() if name not in OWN_TARGETS and target[0] != "tcp"}
        self._join(others, targets["web"][1])

    def _join(self, targets, web):
        endpoints = [
            {"name": name, "url": f"{scheme}://{name}.localhost", "upstream": {"url": upstream}}
            for name, (scheme, upstream) in targets.items()
        ]
        endpoints.append({"name": "plain", "url": "http://plain.localhost", "upstream": {"url": web}})
        agent = {"authtoken": self.authtoken, "connect_url": self.connect_url, "connect_cas": str(self.ca_file)}
        file = self.scratch.write(
            "dev-agent.json", json.dumps({"version": 3, "agent": agent, "endpoints": endpoints}), 0o600
        )
        program = Program(
            "dev-agent",
            [self.binaries["adit"], "run", "--config", file],
            self.scratch,
            env={"SSL_CERT_FILE": str(self.upstreams.authority.certificate)},
        )
        self.programs["agent"] = program
        for endpoint in endpoints:
            program.wait_for_log(endpoint["url"])

    def place(self, name):
        scheme, upstream = self.upstreams.targets()[name]
        if scheme == "tcp":
            return Place("tcp", "localhost", self._tcp_ports[urlsplit(upstream).port])
        return self._named(scheme, f"{name}.localhost")

    def plain_place(self, name):
        return self._named("http", f"{name}.localhost")

    def place_of_nobody(self):
        return self._named("https", "nobody.localhost")

    def sdk_place(self, proto, name):
        if proto == "tcp":
            return Spot("", None)
        host = f"{name}.localhost"
        return Spot(host, self._named(proto, host))

    def _named(self, scheme, host):
        return Place(scheme, host, self._ports[scheme], self.ca_file)

    def end(self):
        """Ctrl-C ends everything and leaves nothing behind."""
        gateway = self.programs["gateway"]
        gateway.signal(signal.SIGINT)
        expect_equal(gateway.wait(20), 0, "dev's exit status after Ctrl-C")
        left = sorted(path.name for path in self.scratch.path("dev-tmp", "x").parent.iterdir())
        expect_equal(left, [], "files left behind by dev")
        return []


def _upstream(target):
    """What the command line calls an upstream: there `tls://` says that the visitor speaks TLS with it."""
    scheme, upstream = target
    return upstream.replace("tcp://", "tls://") if scheme == "tls" else upstream


def _first_line(program, seconds):
    lines = Queue()
    threading.Thread(target=lambda: lines.put(program.child.stdout.readline()), daemon=True).start()
    try:
        line = lines.get(timeout=seconds)
    except Empty:
        raise Failure(f"dev printed no line within {seconds} s; its log:\n{program.logged()}") from None
    if not line:
        raise Failure(f"dev ended before it was ready; its log:\n{program.logged()}")
    return line
