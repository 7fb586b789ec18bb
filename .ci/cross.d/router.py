"""An emulated router with its agent, and a native gateway: the deployment of the cross scenarios."""

from authority import Authority
from files import Files
from raw import Raw
from web import Web

SCHEMES = {"web": "https", "raw": "tcp", "rawdown": "tcp"}


class Router(Files):
    """A `Files` whose agent runs under emulation, with the upstreams that need no package."""

    def __init__(self, name, scratch, binaries):
        self.name = name
        super().__init__(scratch, binaries, Local(scratch))

    def names_of(self, scheme):
        return [name for name, kind in SCHEMES.items() if kind == scheme]

    def stop(self):
        super().stop()
        self.upstreams.stop()


class Local:
    """What the agent forwards to, in this process."""

    def __init__(self, scratch):
        self.authority = Authority("upstream", scratch)
        self.web, self.raw = Web(), Raw()
        self._closed_port = scratch.port()

    def targets(self):
        """Name -> (scheme of the endpoint, upstream URL)."""
        local = "127.0.0.1"
        urls = {
            "web": f"http://{local}:{self.web.port}",
            "raw": f"tcp://{local}:{self.raw.port}",
            "rawdown": f"tcp://{local}:{self._closed_port}",
        }
        return {name: (SCHEMES[name], url) for name, url in urls.items()}

    def stop(self):
        self.web.stop()
        self.raw.stop()
