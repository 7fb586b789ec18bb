"""What scenarios may know of a running gateway with its agents, however it was set up."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from clients import Place


@dataclass(frozen=True)
class Spot:
    """Where an SDK binds an endpoint (`bound`), and where clients find it."""

    bound: str
    place: Place | None

    def resolve(self, url):
        """The place of an endpoint whose address the gateway assigned."""
        parts = urlsplit(url)
        return self.place or Place(parts.scheme, parts.hostname, parts.port)


class Deployment:
    """A gateway and its agents. Subclasses start them and know the addresses.

    `connect_url`, `ca_file` and `authtoken` are what another agent or an SDK needs to join.
    """

    name: str
    connect_url: str
    ca_file: Path
    authtoken: str

    def __init__(self, scratch, binaries, upstreams):
        self.scratch, self.binaries, self.upstreams = scratch, binaries, upstreams
        self.programs = {}

    def start(self):
        """Returns when all endpoints can be reached."""
        raise NotImplementedError

    def place(self, name):
        """Where the endpoint of an upstream target is."""
        raise NotImplementedError

    def plain_place(self, name):
        """Where an endpoint without TLS is."""
        raise NotImplementedError

    def place_of_nobody(self):
        """A well-formed name under the gateway that no endpoint has."""
        raise NotImplementedError

    def sdk_place(self, proto, name):
        """Where an SDK may bind an endpoint: a `Spot`."""
        raise NotImplementedError

    def wrong_token(self):
        """A token of the right form that is not valid: its secret is spelt backwards."""
        head, _, secret = self.authtoken.rpartition("_")
        return f"{head}_{secret[::-1]}"

    def recover(self):
        """Called after a failed scenario, so that the next one finds everything running."""

    def end(self):
        """Called after the last scenario, for what can only be checked then; returns the names of what failed."""
        return []

    def stop(self):
        for program in reversed(self.programs.values()):
            program.stop()

    def log_marks(self):
        """How long each log is now, so that a failure shows only what was logged during its scenario."""
        return {name: program.log_size() for name, program in self.programs.items()}

    def show_logs(self, marks):
        for name, program in self.programs.items():
            text = program.logged(marks.get(name, 0))
            print(f"--- log of {program.name} ({len(text)} bytes, the end of it)\n{text[-LOG_SHOWN:]}", flush=True)


LOG_SHOWN = 6_000
