"""Builds and checks the agents of targets, several targets at a time, and runs the tests of the core for some."""

import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import cache
import debian
import family
import rust
import sysroot

# The end of every build, link-time optimisation, has one thread.
AT_ONCE = 2
# Big-endian, and 32 bits without atomics of 64: what differs most from where the tests are run anyway.
CORE = {"mips-unknown-linux-musl", "armv5te-unknown-linux-musleabi"}
SECONDS_MAX = 1800


def prepare():
    """Installs and fetches what all builds need: package managers do not bear two at a time."""
    rust.check()
    debian.install(*sysroot.PACKAGES)
    sysroot.fetch()
    subprocess.run([rust.CARGO, "fetch", "--locked", "--quiet"], cwd=family.ROOT, check=True)


def all_of(targets, keep):
    """Builds and checks every target; returns sentences about those that failed. `keep` leaves what cargo has made."""
    parts = shared_out(targets)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        failures = pool.map(lambda number: _part(parts[number], cache.folder("builds", str(number)), keep), range(AT_ONCE))
        return [failure for of_part in failures for failure in of_part]


def shared_out(targets):
    """One list of targets for each of the builds at a time, of about the same work, and the same in every run.

    Each has a folder of its own, because cargo lets nobody else into one: what runs on this machine, macros and the
    scripts of crates, is compiled once for each list instead of once for each target.
    """
    parts = [[] for _ in range(AT_ONCE)]
    for target in sorted(targets, key=_work, reverse=True):
        min(parts, key=lambda part: sum(map(_work, part))).append(target)
    return parts


def _work(target):
    return len(target.builds) + (target.triple in CORE)


def _part(targets, folder, keep):
    failed = [failure for target in targets for failure in _one(target, folder, keep)]
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    return failed


def _one(target, folder, keep):
    # What an earlier run left must not be taken for the result of this one.
    shutil.rmtree(rust.path(target).parent, ignore_errors=True)
    steps = ["check", "test"] if target.triple in CORE else ["check"]
    failed = [f"{target.triple}: targets/{step}" for step in steps if not _step(step, target.triple, folder)]
    if not keep:
        for of_build in (folder, folder / "small"):
            shutil.rmtree(of_build / target.triple, ignore_errors=True)
    return failed


def _step(step, triple, folder):
    """Runs a script of `targets/`; true if it succeeds. What it says is printed in one piece."""
    start = time.monotonic()
    done = subprocess.run(
        [family.TARGETS / step, triple],
        env=os.environ | {"ADIT_TARGETS_BUILD": str(folder), "CARGO_TERM_QUIET": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS_MAX,
    )
    said = done.stdout if done.returncode else "".join(line for line in done.stdout.splitlines(True) if line.startswith(triple))
    print(f"{said}cross: {triple}: targets/{step}: {time.monotonic() - start:.0f} s, status {done.returncode}", flush=True)
    return done.returncode == 0
