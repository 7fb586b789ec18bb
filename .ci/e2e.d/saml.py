"""Two real identity providers of SAML: PyPI's pysaml2 in this process, and npm's samlp beside it."""

import html
import subprocess
import threading
import urllib.parse
import urllib.request
from pathlib import Path

from program import Program, wait_until
from served import Quiet, Served

_FOLDER = Path(__file__).resolve().parent / "saml"


def key_pair(scratch, name):
    """The files of an RSA key, and of its certificate."""
    key, certificate = (scratch.path("saml", f"{name}.{kind}") for kind in ("key", "pem"))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={name}"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return key, certificate


class Samlp:
    """npm's samlp. With `service`, a pair of files, it encrypts assertions for that certificate. With `asks`, it has a page
    with a link on it before it says who somebody is."""

    name = "samlp"

    def __init__(self, scratch, acs, service=None, asks=False):
        self.scratch, self.acs, self.service, self.asks = scratch, acs, service, asks
        self.port, self.keys = scratch.port(), key_pair(scratch, "samlp")
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        arguments = [self.port, *self.keys, self.acs, "asks" if self.asks else "-"]
        if self.service:
            _, certificate = self.service
            public = self.scratch.path("saml", "service.pub")
            public.write_bytes(subprocess.check_output(["openssl", "x509", "-in", certificate, "-pubkey", "-noout"]))
            arguments += [certificate, public]
        self.program = Program("samlp", ["node", _FOLDER / "provider.mjs", *arguments], self.scratch)
        wait_until(self._answers, "samlp to answer", 20, self.program)

    def know(self, *_metadata):
        """It takes requests from everybody."""

    def stop(self):
        self.program.stop()

    def _answers(self):
        try:
            return urllib.request.urlopen(f"{self.url}/metadata", timeout=5).read()
        except OSError:
            return None


class Pysaml(Served):
    """pysaml2: everybody is ann there, and it wants signed requests of services that it knows."""

    name = "pysaml2"

    def __init__(self, scratch, _acs, service=None, asks=False):
        del service
        self.key, self.certificate = key_pair(scratch, "pysaml2")
        self.services, self.ended, self.answers = [], threading.Event(), []
        provider = self

        from saml2.s_utils import decode_base64_and_inflate

        class Handler(Quiet):
            def do_GET(self):
                parts = urllib.parse.urlsplit(self.path)
                fields = dict(urllib.parse.parse_qsl(parts.query))
                try:
                    match parts.path:
                        case "/metadata":
                            self._send(200, "application/samlmetadata+xml", provider.metadata())
                        case "/sso" if asks and "sure" not in fields:
                            self._send(200, "text/html", f'<a href="{html.escape(self.path)}&amp;sure=1">Log in as ann</a>')
                        case "/sso":
                            self._send(200, "text/html", provider.answer(fields))
                        case "/slo" if "SAMLResponse" in fields:
                            provider.answers.append(decode_base64_and_inflate(fields["SAMLResponse"]).decode())
                            self._send(200, "text/html", "logged out of everything")
                        case "/slo":
                            self.send_response(302)
                            self.send_header("Location", provider.log_out(fields))
                            self.send_header("Content-Length", "0")
                            self.end_headers()
                except Exception as error:
                    self._send(500, "text/plain", f"{type(error).__name__}: {error}")

            def _send(self, status, kind, text):
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        super().__init__(Handler)
        self.url = f"http://127.0.0.1:{self.port}"

    def know(self, *metadata):
        self.services = list(metadata)

    def metadata(self):
        from saml2.metadata import entity_descriptor

        return str(entity_descriptor(self._config()))

    def answer(self, fields):
        """A page with a form that takes the response to the service."""
        from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT
        from saml2.saml import NAMEID_FORMAT_PERSISTENT, NameID
        from saml2.xmldsig import DIGEST_SHA256, SIG_RSA_SHA256

        server = self._server()
        signed = {name: fields[name] for name in ("SigAlg", "Signature") if name in fields}
        request = server.parse_authn_request(
            fields["SAMLRequest"],
            BINDING_HTTP_REDIRECT,
            relay_state=fields["RelayState"],
            sigalg=signed["SigAlg"],
            signature=signed["Signature"],
        ).message
        response = server.create_authn_response(
            identity={"mail": ["ann@example.com"], "displayName": ["Ann"], "eduPersonAffiliation": ["staff"]},
            in_response_to=request.id,
            destination=request.assertion_consumer_service_url,
            sp_entity_id=request.issuer.text,
            name_id=NameID(format=NAMEID_FORMAT_PERSISTENT, text="ann"),
            authn={"class_ref": "urn:oasis:names:tc:SAML:2.0:ac:classes:Password"},
            sign_response=True,
            sign_assertion=True,
            sign_alg=SIG_RSA_SHA256,
            digest_alg=DIGEST_SHA256,
        )
        place = request.assertion_consumer_service_url
        form = server.apply_binding(BINDING_HTTP_POST, str(response), place, fields["RelayState"], response=True)
        return form["data"]

    def begin_log_out(self, entity_id):
        """Where a browser goes to bring a service a log-out of ann, and the ID of that."""
        from saml2 import BINDING_HTTP_REDIRECT
        from saml2.saml import NAMEID_FORMAT_PERSISTENT, NameID
        from saml2.xmldsig import SIG_RSA_SHA256

        server = self._server()
        place = server.metadata.single_logout_service(entity_id, BINDING_HTTP_REDIRECT, "spsso")[0]["location"]
        name = NameID(format=NAMEID_FORMAT_PERSISTENT, text="ann")
        number, request = server.create_logout_request(place, entity_id, name_id=name)
        sent = server.apply_binding(
            BINDING_HTTP_REDIRECT, str(request), place, relay_state="relay", sign=True, sigalg=SIG_RSA_SHA256
        )
        return dict(sent["headers"])["Location"], number

    def log_out(self, fields):
        """Where an answer to a log-out goes."""
        from saml2 import BINDING_HTTP_REDIRECT

        server = self._server()
        request = server.parse_logout_request(
            fields["SAMLRequest"], BINDING_HTTP_REDIRECT, sigalg=fields["SigAlg"], signature=fields["Signature"]
        ).message
        assert request.name_id.text == "ann", request
        response = server.create_logout_response(request, [BINDING_HTTP_REDIRECT])
        self.ended.set()
        service = server.metadata.single_logout_service(request.issuer.text, BINDING_HTTP_REDIRECT, "spsso")
        answer = server.apply_binding(BINDING_HTTP_REDIRECT, str(response), service[0]["location"], response=True)
        return dict(answer["headers"])["Location"]

    def _config(self):
        from saml2 import BINDING_HTTP_REDIRECT
        from saml2.config import IdPConfig

        endpoints = {
            "single_sign_on_service": [(f"{self.url}/sso", BINDING_HTTP_REDIRECT)],
            "single_logout_service": [(f"{self.url}/slo", BINDING_HTTP_REDIRECT)],
        }
        service = {"endpoints": endpoints, "want_authn_requests_signed": True, "policy": {"default": {"lifetime": {"minutes": 5}}}}
        config = {
            "entityid": f"{self.url}/metadata",
            "key_file": str(self.key),
            "cert_file": str(self.certificate),
            "service": {"idp": service},
            "metadata": {"inline": self.services},
        }
        return IdPConfig().load(config)

    def _server(self):
        from saml2.server import Server

        return Server(config=self._config())
