"""Everything behind the agents: started once, used by all deployments."""

from authority import Authority
from echo import WebSocketEcho
from nginx import Nginx
from postgres import Postgres
from raw import Raw
from sdk_session import COMMANDS
from web import Web

# Names of the TLS upstream in both deployments, each in full: OpenSSL takes no wildcard directly below `localhost`.
SEALED_NAMES = ("sealed", "sealed-proxy1", "sealed-proxy2", *(f"{language}-sealed" for language in COMMANDS))
SEALED_HOSTS = [f"{name}.{domain}" for name in SEALED_NAMES for domain in ("localhost", "example.test")]
# The name by which clients of a `tcp` endpoint reach the database, and verify it.
DATABASE_HOST = "gateway.example.test"
# The name by which agents verify the TLS upstream themselves.
LOCAL_HOST = "localhost"


class Upstreams:
    def __init__(self, scratch):
        # Not the authority of any gateway: who trusts this one has verified the upstream itself.
        self.authority = Authority("upstream", scratch)
        certificate, key = self.authority.issue(*SEALED_HOSTS, LOCAL_HOST)
        self.web = Web()
        self.echo = WebSocketEcho()
        self.raw = Raw()
        self.nginx = Nginx(scratch, certificate, key)
        self.postgres = Postgres(scratch, *self.authority.issue(DATABASE_HOST))
        self.closed_port = scratch.port()

    def targets(self):
        """What agents forward to: name -> (scheme of the endpoint, upstream URL)."""
        local = "127.0.0.1"
        return {
            "web": ("https", f"http://{local}:{self.web.port}"),
            "echo": ("https", f"http://{local}:{self.echo.port}"),
            "nginx": ("https", f"http://{local}:{self.nginx.port}"),
            "secure": ("https", f"https://{LOCAL_HOST}:{self.nginx.tls_port}"),
            "down": ("https", f"http://{local}:{self.closed_port}"),
            "sealed": ("tls", f"tcp://{local}:{self.nginx.tls_port}"),
            "raw": ("tcp", f"tcp://{local}:{self.raw.port}"),
            "postgres": ("tcp", f"tcp://{local}:{self.postgres.port}"),
            "wrapped": ("tcp", f"tls://{LOCAL_HOST}:{self.nginx.tls_port}"),
            "rawdown": ("tcp", f"tcp://{local}:{self.closed_port}"),
        }

    def stop(self):
        for upstream in (self.web, self.echo, self.raw, self.nginx, self.postgres):
            upstream.stop()
