"""A deployment by hand: a gateway and an agent as two processes, each with its file, and a certificate authority.

The agents bind `.internal` names only; cloud endpoints on the gateway make them public.
"""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

from authority import Authority
from clients import Place, fetch
from deployment import Deployment, Spot
from failure import Failure
from program import Program, wait_until
from sdk_session import COMMANDS

DOMAIN = "example.test"
ACTIVATE = Path(__file__).resolve().parent / "activate.py"
SDK_PROTOCOLS = {"web": "https", "raw": "tcp", "sealed": "tls"}


class Files(Deployment):
    name = "files"
    # The name by which agents know the gateway, and where it listens.
    connect_name = "localhost"
    address = "127.0.0.1"

    def start(self):
        self.prepare()
        self.start_prepared()

    def start_prepared(self):
        # Held by this process: a gateway that restarts loses no connection attempt.
        self._held = [_listener(port) for port in self.ports()]
        self.start_gateway()
        self.start_agent()

    def prepare(self):
        """Makes certificates, a token and the gateway's file, and starts nothing."""
        self._authority = Authority("gateway", self.scratch)
        self.ca_file = self._authority.certificate
        self.renew_certificate()
        # One port for agents, HTTPS and TLS pass-through, as on a host that has a single public 443.
        self.port, self._http_port = self.scratch.port(), self.scratch.port()
        self._tcp_ports = {name: self.scratch.port() for name in self.names_of("tcp")}
        self.connect_url = f"{self.connect_name}:{self.port}"
        self.authtoken, self._credential = self.new_token("e2e")
        self.write_gateway()

    def ports(self):
        """Where the gateway listens."""
        return (self.port, self._http_port, *self._tcp_ports.values())

    def renew_certificate(self):
        """A new certificate in the place of the one before."""
        self._certificate, self._key = self._authority.issue("localhost", f"*.{DOMAIN}")

    def vouch(self):
        """The authority's word on the gateway's certificate."""
        return self._authority.vouch(self._certificate)

    def certificate_files(self):
        """The gateway's own certificate and its key."""
        return self._certificate, self._key

    def names_of(self, scheme):
        targets = [name for name, (kind, _) in self.upstreams.targets().items() if kind == scheme]
        sdk = [f"{language}-{name}" for language in COMMANDS for name, kind in SDK_PROTOCOLS.items() if kind == scheme]
        return targets + sdk

    def spare_credential(self):
        """A valid credential whose token nobody has."""
        return self.new_token("spare")[1]

    def new_token(self, name):
        """A fresh token and the entry to paste into the gateway's file."""
        command = [self.binaries["adit-gateway"], "token", "new", "--id", name, "--account", "main", "--allow-any"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
        token, _, entry = done.stdout.partition("\n")
        return token, entry

    def gateway_document(self):
        """The gateway's file as a tree, but for the credentials."""
        shared = f"{self.address}:{self.port}"
        endpoints = [
            self.cloud_endpoint(f"{scheme}://{name}.{DOMAIN}", f"{scheme}://{name}.internal")
            for scheme in ("https", "tls")
            for name in self.names_of(scheme)
        ]
        endpoints += [
            self.cloud_endpoint(f"tcp://gateway.{DOMAIN}:{port}", f"tcp://{name}.internal:7000")
            for name, port in self._tcp_ports.items()
        ]
        endpoints.append(self.cloud_endpoint(f"http://plain.{DOMAIN}", "http://plain.internal"))
        return {
            "connect": {"names": [self.connect_name]},
            "listeners": {
                **{"agents": shared, "https": shared, "tls": shared, "http": f"{self.address}:{self._http_port}"},
                "tcp": {"addresses": self.address},
            },
            "certificates": [{"certificate_file": str(self._certificate), "private_key_file": str(self._key)}],
            "accounts": [{"name": "main"}],
            "cloud_endpoints": endpoints,
        }

    def cloud_endpoint(self, url, target):
        phase = "on_http_request" if url.startswith("http") else "on_tcp_connect"
        policy = {phase: [{"actions": [{"type": "forward-internal", "config": {"url": target}}]}]}
        return {"url": url, "account": "main", "traffic_policy": policy}

    @property
    def credential(self):
        """The entry of the agents' token."""
        return self._credential

    @property
    def http_port(self):
        return self._http_port

    def write_gateway(self, document=None, credential=None):
        """Writes the gateway's file as YAML: one key a line, and the credential as it came from `token new`."""
        lines = [f"{key}: {json.dumps(value)}\n" for key, value in (document or self.gateway_document()).items()]
        text = "".join(lines) + "credentials:\n" + (credential or self._credential)
        return self.scratch.write("files/gateway.yml", text, 0o600)

    @property
    def gateway_file(self):
        return self.scratch.path("files", "gateway.yml")

    def start_gateway(self):
        """Starts the gateway on the sockets that this process holds, as a supervisor does."""
        numbers = [held.fileno() for held in self._held]
        command = [sys.executable, ACTIVATE, ",".join(map(str, numbers))]
        command += [self.binaries["adit-gateway"], "run", "--config", self.gateway_file]
        self.programs["gateway"] = Program("gateway", command, self.scratch, pass_fds=numbers)

    def stop_gateway(self):
        """Ends the gateway as a supervisor does; returns the exit status."""
        self.programs["gateway"].signal(signal.SIGTERM)
        return self.programs["gateway"].wait(60)

    def recover(self):
        self.write_gateway()
        if self.programs["gateway"].is_running():
            self.programs["gateway"].signal(signal.SIGHUP)
        else:
            self.start_gateway()
        if not self.programs["agent"].is_running():
            self.start_agent()
        self.wait_until_reachable()

    @property
    def agent_file(self):
        return self.scratch.path("files", "adit.json")

    def gateway_log_size(self):
        return self.programs["gateway"].log_size()

    def gateway_logged(self, since):
        return self.programs["gateway"].logged(since)

    def agent_document(self):
        """The agent's file as a tree."""
        endpoints = []
        for name, (scheme, upstream) in self.upstreams.targets().items():
            port = ":7000" if scheme == "tcp" else ""
            endpoints.append({"name": name, "url": f"{scheme}://{name}.internal{port}", "upstream": {"url": upstream}})
        web = self.upstreams.targets()["web"][1]
        endpoints.append({"name": "plain", "url": "http://plain.internal", "upstream": {"url": web}})
        agent = {"connect_url": self.connect_url, "connect_cas": str(self.ca_file), "authtoken": self.authtoken}
        return {"version": 3, "agent": agent, "endpoints": endpoints}

    def write_agent(self):
        self.scratch.write("files/adit.json", json.dumps(self.agent_document(), indent=1), 0o600)

    def start_agent(self):
        self.write_agent()
        self.programs["agent"] = Program(
            "agent",
            [self.binaries["adit"], "run", "--config", self.agent_file],
            self.scratch,
            # The only authority that its TLS upstreams may come from.
            env={"SSL_CERT_FILE": str(self.upstreams.authority.certificate)},
        )
        self.wait_until_reachable()

    def second_agent(self, authtoken):
        """An agent with a token of its own and one endpoint that nothing leads to."""
        document = json.loads(self.agent_file.read_text())
        document["agent"]["authtoken"] = authtoken
        document["endpoints"] = [{"name": "second", "url": "https://second.internal", "upstream": {"url": "9"}}]
        file = self.scratch.write("files/second.json", json.dumps(document), 0o600)
        return Program("second-agent", [self.binaries["adit"], "run", "--config", file], self.scratch)

    def wait_until_reachable(self, seconds=40):
        def answers():
            try:
                return fetch(self.place("web"), "/hello", seconds=5).status == 200
            except Failure:
                return False

        wait_until(answers, "the first endpoint to answer", seconds, self.programs["agent"])

    def place(self, name):
        scheme, _ = self.upstreams.targets()[name]
        return self._public(scheme, name)

    def plain_place(self, name):
        return Place("http", f"{name}.{DOMAIN}", self._http_port)

    def place_of_nobody(self):
        return Place("https", f"nobody.{DOMAIN}", self.port, self.ca_file)

    def sdk_place(self, proto, name):
        bound = f"{name}.internal:7000" if proto == "tcp" else f"{name}.internal"
        return Spot(bound, self._public(proto, name))

    def _public(self, scheme, name):
        if scheme == "tcp":
            return Place("tcp", f"gateway.{DOMAIN}", self._tcp_ports[name])
        return Place(scheme, f"{name}.{DOMAIN}", self.port, self.ca_file)

    def stop(self):
        super().stop()
        for held in getattr(self, "_held", []):
            held.close()


def _listener(port):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(1024)
    return listener
