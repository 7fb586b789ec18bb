"""Sends marks through each encryption model, and looks for them: `main.py ADIT ADIT_GATEWAY`.

What is looked for, and where, is the same for all models, and so are the tools and the moment: right after the visitor
got its answer, with its connection open. A place in which nothing at all was found proves nothing, so every place
has something that must be found there.
"""

import shutil
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# The machinery of the end-to-end scenarios: programs, certificates, clients.
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e.d")]

import evidence  # noqa: E402 - found only with the line above
from failure import Failure, expect  # noqa: E402
from proof_site import MODELS, ProofSite  # noqa: E402
from scenario import explain  # noqa: E402
from scratch import Scratch  # noqa: E402

GUIDE = ROOT / "docs/end-customer.md"
# Where was looked, in the words of the guide's table.
PACKETS, LINK, MEMORY, LOGS, AGENT = (
    "packets at the gateway",
    "the same, the agent's connection decrypted",
    "the gateway's memory",
    "logs of both",
    "the agent's memory",
)
YES, NO = "readable", "not found"
# What each place must show of the payload, and what it must not.
EXPECTED = {
    "web": {PACKETS: False, LINK: True, MEMORY: True, LOGS: False, AGENT: True},
    "plain": {PACKETS: True, LINK: True, MEMORY: True, LOGS: False, AGENT: True},
    "ended": {PACKETS: False, LINK: False, MEMORY: False, LOGS: False, AGENT: True},
    "sealed": {PACKETS: False, LINK: False, MEMORY: False, LOGS: False, AGENT: False},
    "inside": {PACKETS: False, LINK: False, MEMORY: False, LOGS: False, AGENT: False},
}


def main():
    start = time.monotonic()
    scratch = Scratch()
    names = ("adit", "adit-gateway")
    binaries = {name: shutil.copy(file, scratch.path(name)) for name, file in zip(names, sys.argv[1:3], strict=True)}
    site = ProofSite(scratch, binaries)
    try:
        places = collect(site, scratch)
        found = {model.name: payload_in(site, model, places) for model in MODELS}
        table = table_of(found)
        print(table)
        assert_search_works(site, places)
        expect(found == EXPECTED, "a model shows something else than it should, see the table")
        expect(table in GUIDE.read_text(), f"{GUIDE.relative_to(ROOT)} does not have this table")
    except Exception as error:
        explain(error)
        site.show_logs({})
        return 1
    finally:
        site.stop()
        scratch.remove()
    print(f"proof: {time.monotonic() - start:.0f} s")
    return 0


def collect(site, scratch):
    """Place -> what there is of all that is looked for."""
    site.prepare()
    capture = evidence.Capture(site.ports(), scratch)
    memory, agent_memory = set(), set()
    try:
        site.start_prepared()
        for model in MODELS:
            site.visit(model)
            # Each time: what one visitor leaves behind is overwritten by the next. The others are still connected.
            memory |= seen(site, evidence.memory(site.programs["gateway"], scratch))
            agent_memory |= seen(site, evidence.memory(site.programs["agent"], scratch))
        capture.end()
    finally:
        capture.stop()
    return {
        PACKETS: seen(site, capture.file.read_bytes()),
        LINK: seen(site, evidence.opened(capture.file, site.key_log, site.connect_name)),
        MEMORY: memory,
        LOGS: seen(site, b"".join(program.log.read_bytes() for program in site.programs.values())),
        AGENT: agent_memory,
    }


def seen(site, data):
    """What is in it of all that is looked for: marks, visitors' addresses, server names."""
    words = {word for model in MODELS for word in (*site.marks(model), *site.traces(model))}
    return {word for word in words if word.encode() in data}


def payload_in(site, model, places):
    """Place -> whether the payload of either direction is in it."""
    return {place: bool(words.intersection(site.marks(model))) for place, words in places.items()}


def assert_search_works(site, places):
    """Each place has to show something: the payload of model 1, or who visited whom, which no model hides."""
    for model in MODELS:
        for place, is_readable in EXPECTED[model.name].items():
            marks = places[place].intersection(site.marks(model))
            # The agent has one buffer for all, in which one direction overwrites the other.
            least = 0 if not is_readable else 1 if place == AGENT else 2
            expect(len(marks) >= least, f"a failure of the search: {place} shows only {marks} of {model.endpoint}")
        visitor, *names = site.traces(model)
        for place in (LINK, LOGS):
            expect(visitor in places[place], f"a failure of the search: {place} does not name {model.name}'s visitor")
        for name in names:
            expect(name in places[PACKETS], f"a failure of the search: no packet names {name}")


def table_of(found):
    columns = (PACKETS, LINK, MEMORY, LOGS, AGENT)
    lines = [f"| model | endpoint | {' | '.join(columns)} |", "|---|---|" + "---|" * len(columns)]
    for model in MODELS:
        cells = [YES if found[model.name][place] else NO for place in columns]
        lines.append(f"| {model.number} | {model.endpoint} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
