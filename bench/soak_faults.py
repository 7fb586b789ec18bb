"""The faults of a soak run: a seeded schedule of what networks, operators and upstreams do."""

import json
import signal
import time
from collections import Counter

from failure import Failure

# A fault every few seconds.
PAUSE_SECONDS = (1.0, 5.0)
# After the fault is over: the longest delay between attempts (20 s) and what an attempt takes.
BACK_SECONDS = 35
# An endpoint that comes and goes with reloads.
EXTRA = {"name": "extra", "url": "https://extra.internal", "upstream": {"url": "9"}}


class Faults:
    """`one` makes the next fault, ends it, and waits until there is a session again."""

    def __init__(self, chance, site, proxy, upstream, tally):
        self._chance, self._site, self._proxy, self._upstream, self._tally = chance, site, proxy, upstream, tally
        self._counts = Counter()
        self.longest = 0.0
        # Faults after which no session came back in time.
        self.late = []
        # What happens, and how often in comparison.
        self._kinds = {
            self._reset: 3,
            self._stall: 3,
            self._slow: 3,
            self._far: 2,
            self._black_hole: 2,
            self._half_close: 2,
            self._corrupt: 2,
            self._reload_agent: 2,
            self._reload_gateway: 2,
            self._reconnect: 1,
            self._restart_upstream: 3,
            self._restart_gateway: 1,
            self._kill_gateway: 1,
        }

    def one(self):
        time.sleep(self._chance.uniform(*PAUSE_SECONDS))
        (fault,) = self._chance.choices(list(self._kinds), list(self._kinds.values()))
        name = fault.__name__.strip("_").replace("_", " ")
        self._counts[name] += 1
        fault()
        self._proxy.clear()
        start = time.monotonic()
        try:
            self._site.wait_until_reachable(BACK_SECONDS)
        except Failure as failure:
            self.late.append(f"after the fault '{name}': {failure}")
        self.longest = max(self.longest, time.monotonic() - start)

    def count(self):
        return sum(self._counts.values())

    def details(self):
        return ", ".join(f"{name} {count}" for name, count in sorted(self._counts.items()))

    def _directions(self):
        return self._chance.choice((["up"], ["down"], ["up", "down"]))

    def _hold(self, shortest, longest):
        time.sleep(self._chance.uniform(shortest, longest))

    def _reset(self):
        self._proxy.reset()

    def _stall(self):
        self._proxy.stall(self._directions())
        self._hold(0.5, 4)

    def _slow(self):
        self._proxy.rate(self._chance.choice((32_000, 200_000, 1_000_000)), self._directions())
        self._hold(1, 6)

    def _far(self):
        self._proxy.delay(self._chance.uniform(0.05, 0.4), self._directions())
        self._hold(1, 6)

    def _black_hole(self):
        self._proxy.black_hole(self._directions())
        self._hold(2, 12)

    def _half_close(self):
        self._proxy.half_close(self._directions())

    def _corrupt(self):
        self._proxy.corrupt(self._directions())
        self._hold(0.5, 2)

    def _reload_agent(self):
        """With an endpoint more, or with that one gone again."""
        file = self._site.agent_file
        document = json.loads(file.read_text())
        kept = [endpoint for endpoint in document["endpoints"] if endpoint["name"] != EXTRA["name"]]
        document["endpoints"] = kept if len(kept) < len(document["endpoints"]) else [*kept, EXTRA]
        file.write_text(json.dumps(document))
        self._site.programs["agent"].signal(signal.SIGHUP)

    def _reload_gateway(self):
        self._site.programs["gateway"].signal(signal.SIGHUP)

    def _reconnect(self):
        self._site.programs["agent"].signal(signal.SIGUSR1)

    def _restart_upstream(self):
        with self._tally.upstream_kills:
            self._upstream.kill()
        self._hold(0, 3)
        self._upstream.start()

    def _restart_gateway(self):
        self._end_gateway(signal.SIGTERM)
        self._hold(0, 3)
        self._site.start_gateway()

    def _kill_gateway(self):
        with self._tally.gateway_kills:
            self._end_gateway(signal.SIGKILL)
        self._hold(0, 3)
        self._site.start_gateway()

    def _end_gateway(self, number):
        gateway = self._site.programs["gateway"]
        gateway.signal(number)
        gateway.wait(60)
