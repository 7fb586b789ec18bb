"""The list of fault scenarios, and what a scenario is given: a `Case`.

A scenario is a function of a module `*_scenarios.py` of this folder:

    @fault(seconds=60)
    def reset_in_mid_session_is_survived(case):
        site = case.site()                  # one gateway, one agent, upstreams; nothing runs yet
        proxy = site.through_proxy()        # the agent connects through it
        site.start()                        # returns when the session is up and carries a request
        proxy.reset()
        site.wait_for_session(2)            # poll for conditions; never sleep as a guess
        site.exchange()                     # checksums through HTTP and raw TCP

`seconds` is its own deadline, generous enough for a loaded machine: the scenario is killed at it, and has failed. It
runs beside others, as root in network, mount and process namespaces of its own: all ports are free, mounts and firewall
rules are its alone, and everything ends with it. What moves bulk data or needs the processor says `heavy=True`.

What can be put between or below the programs: `Site.through_proxy` (proxy.py), `Site.across_a_network` (netns.py:
packets vanish, slow links, small MTU), `Site.across_a_bad_link` (tun_link.py: delay and loss), `names.py` (DNS),
`half_dead.py` (a gateway that falls silent), `Site.agent_prefix` (prlimit, faketime, …).
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from fault_site import Site
from program import Program
from scratch import Scratch

_faults = {}


@dataclass(frozen=True)
class Fault:
    """A scenario and what running it takes."""

    name: str
    function: Callable
    seconds: float
    heavy: bool


def fault(seconds, heavy=False):
    """Adds a function to the list of scenarios."""

    def add(function):
        if function.__name__ in _faults:
            raise ValueError(f"two scenarios are called {function.__name__}")
        _faults[function.__name__] = Fault(function.__name__, function, seconds, heavy)
        return function

    return add


def chosen(words):
    """The scenarios whose name has one of the words in it, written with spaces or underscores; all without a word."""
    words = [word.replace(" ", "_") for word in words] or [""]
    return [entry for name, entry in _faults.items() if any(word in name for word in words)]


def named(name):
    return _faults[name]


class Case:
    """Everything that one scenario starts; all of it is stopped at the end."""

    def __init__(self, binaries):
        self.scratch = Scratch()
        self.binaries = binaries
        self.sites = []
        self.programs = []
        self._stack = contextlib.ExitStack()

    def site(self, **options):
        """A gateway, an agent and upstreams of their own: see `Site`."""
        site = Site(self, **options)
        self.sites.append(site)
        return site

    def program(self, name, arguments, **options):
        """Any other program, with its output in the report of a failure."""
        program = Program(name, arguments, self.scratch, **options)
        self.programs.append(program)
        self.at_end(program.stop)
        return program

    def at_end(self, function):
        """Calls `function` when the scenario is over, the last one first."""
        self._stack.callback(function)

    def show_logs(self):
        for site in self.sites:
            site.show_logs({})
        for program in self.programs:
            print(f"--- log of {program.name}\n{program.logged()[-LOG_SHOWN:]}", flush=True)

    def stop(self):
        try:
            self._stack.close()
        finally:
            self.scratch.remove()


LOG_SHOWN = 6_000
