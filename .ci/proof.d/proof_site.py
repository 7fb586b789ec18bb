"""One gateway and one agent, with an endpoint for each way to encrypt."""

from dataclasses import dataclass

from authority import Authority
from clients import Place
from files import DOMAIN, Files
from marks import Service, Visit, mark
from program import Program
from relay import Relay


@dataclass(frozen=True)
class Model:
    """One way through the tunnel; `endpoint` is its description for people."""

    name: str
    number: int
    endpoint: str
    scheme: str
    # Who ends the TLS that the visitor speaks; None where it speaks none.
    end: str | None


MODELS = (
    Model("web", 1, "`https://`: TLS ends at the gateway", "https", "gateway"),
    Model("plain", 1, "`tcp://`, a protocol without TLS", "tcp", None),
    Model("ended", 2, "`tls://` with `agent_tls_termination`", "tls", "agent"),
    Model("sealed", 3, "`tls://`: TLS ends at the upstream", "tls", "upstream"),
    Model("inside", 3, "`tcp://`, a protocol with TLS of its own", "tcp", "upstream"),
)


class ProofSite(Files):
    name = "proof"

    def __init__(self, scratch, binaries):
        super().__init__(scratch, binaries, None)
        self.to_upstream = {model.name: mark() for model in MODELS}
        self.from_upstream = {model.name: mark() for model in MODELS}
        self._visits, self._services = {}, {}

    def prepare(self):
        super().prepare()
        self.key_log = self.scratch.path("keys.log")
        self._authorities = {"gateway": self.ca_file}
        self._papers = {}
        for who in ("agent", "upstream"):
            authority = Authority(who, self.scratch)
            self._authorities[who] = authority.certificate
            self._papers[who] = authority.issue(*(self._public(model.scheme, model.name).host for model in MODELS))
        for model in MODELS:
            papers = self._papers["upstream"] if model.end == "upstream" else ()
            self._services[model.name] = Service(self.from_upstream[model.name], *papers)
        self._relay = Relay(
            (self.connect_name, self.port), self.ca_file, self._certificate, self._key, self.key_log
        )
        self.connect_url = f"{self.connect_name}:{self._relay.port}"

    def names_of(self, scheme):
        return [model.name for model in MODELS if model.scheme == scheme]

    def gateway_document(self):
        document = super().gateway_document()
        document["cloud_endpoints"] = [entry for entry in document["cloud_endpoints"] if "plain." not in entry["url"]]
        return document | {"log": {"level": "trace"}}

    def agent_document(self):
        endpoints = []
        for model in MODELS:
            port = ":7000" if model.scheme == "tcp" else ""
            service = f"127.0.0.1:{self._services[model.name].port}"
            upstream = f"http://{service}" if model.scheme == "https" else f"tcp://{service}"
            url = f"{model.scheme}://{model.name}.internal{port}"
            entry = {"name": model.name, "url": url, "upstream": {"url": upstream}}
            if model.end == "agent":
                certificate, key = map(str, self._papers["agent"])
                entry["agent_tls_termination"] = {"server_certificate": certificate, "server_private_key": key}
            endpoints.append(entry)
        agent = {"connect_url": self.connect_url, "connect_cas": str(self.ca_file), "authtoken": self.authtoken}
        # The highest there is.
        return {"version": 3, "agent": agent | {"log_level": "debug"}, "endpoints": endpoints}

    def start_agent(self):
        self.write_agent()
        command = [self.binaries["adit"], "run", "--config", self.agent_file]
        self.programs["agent"] = Program("agent", command, self.scratch)
        for model in MODELS:
            self.programs["agent"].wait_for_log(f"endpoint={model.name} online")

    def visit(self, model):
        """Sends and receives the marks of a model; the connection stays open."""
        place = self._public(model.scheme, model.name)
        authority = self._authorities.get(model.end)
        place = Place(place.scheme, place.host, place.port, authority)
        connection = place.tls() if authority else place.socket()
        self._visits[model.name] = Visit(connection, place.host, *self.marks(model))

    def marks(self, model):
        """What goes to the upstream, and what comes from it."""
        return self.to_upstream[model.name], self.from_upstream[model.name]

    def traces(self, model):
        """What no model hides: the address of the visitor, once there was one, and the server name, where it has TLS."""
        visit = self._visits.get(model.name)
        names = [f"{model.name}.{DOMAIN}"] if model.scheme in ("https", "tls") else []
        return [visit.address, *names] if visit else names

    def stop(self):
        for part in (*self._visits.values(), *self._services.values()):
            part.close() if isinstance(part, Visit) else part.stop()
        super().stop()
        if relay := getattr(self, "_relay", None):
            relay.stop()
