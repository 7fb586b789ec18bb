"""A site whose visitors' TLS ends in the agent or at the upstream: the gateway has no key of theirs.

It has a second port, for pass-through alone, on which nobody is taken for an agent or a visitor of web pages.
"""

import json
import signal
from dataclasses import dataclass

from authority import Authority
from clients import Place
from files import DOMAIN, Files
from visitor_certificates import VisitorAuthority

VERSIONS = (1, 2)


@dataclass(frozen=True)
class Endpoint:
    scheme: str
    upstream: str
    proxy_protocol: int | None = None
    ends_tls: bool = False
    # What else is said about the agent's end of TLS.
    termination: tuple = ()


class Private(Files):
    name = "private"

    def prepare(self):
        self.tls_port = self.scratch.port()
        self._sources = 0
        self.visitors = VisitorAuthority("visitors", self.scratch)
        self.strangers = VisitorAuthority("strangers", self.scratch)
        self.endpoints = self._endpoints()
        self.agent_authority = Authority("agent", self.scratch)
        hosts = [f"{name}.{DOMAIN}" for name, endpoint in self.endpoints.items() if endpoint.ends_tls]
        self.agent_certificate, self._agent_key = self.agent_authority.issue(*hosts)
        super().prepare()

    def _endpoints(self):
        upstreams, local, secure = self.upstreams, "tcp://127.0.0.1", "localhost"
        nginx = upstreams.nginx
        visitors = ("mutual_tls_certificate_authorities", [str(self.visitors.certificate)])
        database = f"{local}:{upstreams.postgres.port}"
        endpoints = {
            "web": Endpoint("https", f"http://127.0.0.1:{upstreams.web.port}"),
            "ended": Endpoint("tls", f"{local}:{upstreams.web.port}", ends_tls=True),
            "again": Endpoint("tls", f"tls://{secure}:{nginx.tls_port}", ends_tls=True),
            "mutual": Endpoint("tls", f"{local}:{upstreams.web.port}", ends_tls=True, termination=(visitors,)),
            "database": Endpoint(
                "tls", database, ends_tls=True, termination=(("alpn_protocols", ["postgresql"]),)
            ),
            "unnamed": Endpoint("tls", database, ends_tls=True),
            "sealed": Endpoint("tls", f"{local}:{nginx.tls_port}"),
            "postgres": Endpoint("tcp", database),
        }
        for number in VERSIONS:
            plain, tls = nginx.proxied_port, nginx.proxied_tls_port
            endpoints |= {
                f"open-proxy{number}": Endpoint("https", f"http://127.0.0.1:{plain}", number),
                f"reopened-proxy{number}": Endpoint("https", f"https://{secure}:{tls}", number),
                f"ended-proxy{number}": Endpoint("tls", f"{local}:{plain}", number, ends_tls=True),
                f"again-proxy{number}": Endpoint("tls", f"tls://{secure}:{tls}", number, ends_tls=True),
                f"sealed-proxy{number}": Endpoint("tls", f"{local}:{tls}", number),
                f"raw-proxy{number}": Endpoint("tcp", f"{local}:{upstreams.raw.port}", number),
            }
        return endpoints

    def source(self):
        """An address that no visitor had yet: handshakes are rationed by address."""
        self._sources += 1
        return f"127.1.{self._sources // 250}.{self._sources % 250 + 1}"

    def names_of(self, scheme):
        return [name for name, endpoint in self.endpoints.items() if endpoint.scheme == scheme]

    def ports(self):
        return (*super().ports(), self.tls_port)

    def gateway_document(self):
        document = super().gateway_document()
        listeners = document["listeners"]
        listeners["tls"] = [listeners["tls"], f"{self.address}:{self.tls_port}"]
        # Why a visitor who names nobody gets nowhere is said at this level.
        return document | {"log": {"level": "debug"}}

    def agent_document(self):
        document = super().agent_document()
        document["endpoints"] = [self._agent_endpoint(name) for name in self.endpoints]
        return document

    def _agent_endpoint(self, name):
        endpoint = self.endpoints[name]
        port = ":7000" if endpoint.scheme == "tcp" else ""
        upstream = {"url": endpoint.upstream}
        if endpoint.proxy_protocol:
            upstream["proxy_protocol"] = endpoint.proxy_protocol
        entry = {"name": name, "url": f"{endpoint.scheme}://{name}.internal{port}", "upstream": upstream}
        if endpoint.ends_tls:
            entry["agent_tls_termination"] = {
                "server_certificate": str(self.agent_certificate),
                "server_private_key": str(self._agent_key),
                **dict(endpoint.termination),
            }
        return entry

    def place(self, name):
        """Where an endpoint is; `ca_file` is the authority of whoever ends its TLS."""
        place = self._public(self.endpoints[name].scheme, name)
        return Place(place.scheme, place.host, place.port, self._authority_of(name))

    def _authority_of(self, name):
        endpoint = self.endpoints[name]
        if endpoint.ends_tls:
            return self.agent_authority.certificate
        return self.ca_file if endpoint.scheme == "https" else self.upstreams.authority.certificate

    def web_place(self, name):
        """The same for a client of web pages: inside the TLS of a `tls` endpoint is HTTP."""
        place = self.place(name)
        return Place("https", place.host, place.port, place.ca_file)

    def reload_agent(self):
        """Lets the agent read its file and certificates again; returns when it has."""
        agent = self.programs["agent"]
        mark = agent.log_size()
        self.write_agent()
        agent.signal(signal.SIGHUP)
        agent.wait_for_log("the configuration was read again", since=mark)

    def agent_file_with_key(self, certificate, key):
        """An agent's file with one endpoint, which ends TLS with this certificate, for `adit check`."""
        document = self.agent_document()
        termination = {"server_certificate": str(certificate), "server_private_key": str(key)}
        endpoint = {"name": "other", "url": "tls://other.internal", "upstream": {"url": "9"}}
        document["endpoints"] = [endpoint | {"agent_tls_termination": termination}]
        return self.scratch.write("files/other.json", json.dumps(document), 0o600)
