"""A cloud endpoint under a policy, in front of an upstream that counts what reaches it."""

import hashlib
import json
import queue
import signal
import time
from contextlib import contextmanager, suppress

from clients import Place, fetch
from files import DOMAIN
from program import Program, wait_until
from served import Quiet, Served

HOST = f"policy.{DOMAIN}"
TARGET = "https://counted.internal"


def rule(action, config=None, expression=None):
    """A rule of one action, under a condition if there is one."""
    entry = {"name": action, "actions": [{"type": action} | ({"config": config} if config else {})]}
    return entry | ({"expressions": [expression]} if expression else {})


@contextmanager
def policy(deployment, rules, after=(), change=lambda document: None, credentials=None):
    """A cloud endpoint with these rules in front of an upstream that counts; gives its place and the upstream.

    `change` may change the gateway's document, `credentials` is what the gateway's file has of them.
    """
    with Counted() as counted:
        agent = json.loads(deployment.agent_file.read_text())
        # It runs beside another agent of the same box and token.
        agent["agent"]["instance_id"] = "counted"
        agent["endpoints"] = [{"name": "counted", "url": TARGET, "upstream": {"url": f"http://127.0.0.1:{counted.port}"}}]
        file = deployment.scratch.write("files/counted.json", json.dumps(agent), 0o600)
        program = Program("counted", [deployment.binaries["adit"], "run", "--config", file], deployment.scratch)
        forward = rule("forward-internal", {"url": TARGET})
        # Answers before all other rules once exactly this policy is in force.
        mark = f"/ready-{time.monotonic_ns()}"
        ready = rule("custom-response", {"body": "ready"}, f"req.url.path == '{mark}'")
        phases = {"on_http_request": [ready, *rules, forward], "on_http_response": list(after)}
        document = deployment.gateway_document()
        document["cloud_endpoints"].append({"url": f"https://{HOST}", "traffic_policy": phases})
        # Beside the rules: whether the agent is there.
        open_policy = {"on_http_request": [forward]}
        document["cloud_endpoints"].append({"url": f"https://open.{DOMAIN}", "traffic_policy": open_policy})
        place, beside = (Place("https", host, deployment.port, deployment.ca_file) for host in (HOST, f"open.{DOMAIN}"))
        change(document)
        deployment.write_gateway(document, credentials)
        deployment.programs["gateway"].signal(signal.SIGHUP)
        try:
            wait_until(lambda: fetch(place, mark).body == b"ready", "the policy to be in force", 20)
            wait_until(lambda: fetch(beside, "/").status == 200, "the agent to be online", 20, program)
            yield place, counted
        finally:
            program.stop()
            deployment.write_gateway()
            deployment.programs["gateway"].signal(signal.SIGHUP)


class Counted(Served):
    """Tells what it was asked, and counts how often.

    `/status/N` answers with that status, `/text` with many equal lines (`?endless` without an end), `/events` with what is
    put into `events` until that is None; `/upgrade` becomes a connection whose bytes come back; a POST is answered with the
    digest of its body.
    """

    def __init__(self):
        counted = self
        self.requests = 0
        self.events = queue.Queue()

        class Handler(Quiet):
            def do_GET(self):
                counted.requests += 1
                headers = {name.lower(): value for name, value in self.headers.items()}
                if self.path == "/events":
                    with suppress(ConnectionError):
                        self.stream(iter(counted.events.get, None))
                elif self.path == "/upgrade":
                    # Its bytes come back from then on.
                    self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                    self.close_connection = True
                    # Tunnels of a session that has ended are aborted.
                    with suppress(ConnectionError):
                        while data := self.rfile.read1(1 << 16):
                            self.wfile.write(data)
                elif self.path == "/text?endless":
                    with suppress(ConnectionError):
                        self.stream(iter(lambda: time.sleep(0.1) or b"the same line\n", None))
                elif self.path == "/text":
                    self.answer(["the same line"] * 5000, ETag='"text"')
                else:
                    status = int(self.path[len("/status/") :]) if self.path.startswith("/status/") else 200
                    self.answer({"path": self.path, "headers": headers}, status)

            do_HEAD = do_GET

            def do_POST(self):
                counted.requests += 1
                data = self.rfile.read(int(self.headers["Content-Length"]))
                self.answer({"sha256": hashlib.sha256(data).hexdigest()})

        super().__init__(Handler)
