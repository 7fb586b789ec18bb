"""Builds the agent of each target, and runs it under emulation against a native gateway:
`main.py [--keep] ADIT_GATEWAY TRIPLE…`. With `--keep` what was built stays in the cache.
"""

import shlex
import shutil
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGETS = HERE.parent.parent / "targets"
# The machinery of the end-to-end scenarios (programs, certificates, clients, upstreams), and what is known of targets.
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e.d"), str(TARGETS / "lib")]

import builds  # noqa: E402 - found only with the line above
import family  # noqa: E402
import router_scenarios  # noqa: E402
import rust  # noqa: E402
import scenario  # noqa: E402
from router import Router  # noqa: E402
from scratch import Scratch  # noqa: E402

# Both byte orders, no atomics of 64 bits, no floating-point unit: these run all scenarios, the others the first ones.
FULL = {"mipsel-unknown-linux-musl", "mips-unknown-linux-musl", "armv5te-unknown-linux-musleabi"}


def main():
    words = sys.argv[1:]
    keep = words[0] == "--keep"
    gateway, *names = words[1:] if keep else words
    targets = [family.load(name) for name in family.named(names)]
    builds.prepare()
    failed = builds.all_of(targets, keep)
    # Not before: what is timed needs the machine for itself.
    for target in targets:
        for build in target.builds:
            start = time.monotonic()
            suite = suite_of(target, build)
            wrong = run(target, build, gateway, suite)
            seconds = time.monotonic() - start
            print(f"cross: {build.name}: {len(suite)} scenarios, {seconds:.0f} s, {len(wrong)} failed", flush=True)
            failed += wrong
    for name in failed:
        print(f"cross: failed: {name}")
    return 1 if failed else 0


def suite_of(target, build):
    if build.small:
        return router_scenarios.SMALL
    return router_scenarios.FULL if target.triple in FULL else router_scenarios.SHORT


def run(target, build, gateway, suite):
    """Starts router and gateway and runs the scenarios; returns the names of those that failed."""
    scratch = Scratch()
    router = None
    try:
        binaries = {
            "adit": emulated(target, build, scratch),
            "adit-gateway": shutil.copy(gateway, scratch.path("adit-gateway")),
        }
        router = Router(build.name, scratch, binaries)
        router.start()
        return scenario.run_all(router, router_scenarios.named(suite, build.name))
    except Exception as error:
        scenario.explain(error)
        if router:
            router.show_logs({})
        return [f"{build.name}: start"]
    finally:
        if router:
            router.stop()
        scratch.remove()


def emulated(target, build, scratch):
    """A program like any other to those that start it and send it signals: the emulator takes its place."""
    binary = shutil.copy(rust.path(target, build.small), scratch.path("adit-of-the-target"))
    return scratch.write("adit", f'#!/bin/sh\nexec {shlex.join([*target.qemu, str(binary)])} "$@"\n', 0o755)


if __name__ == "__main__":
    sys.exit(main())
