"""Which versions of crates a target is built with: those of Cargo.lock, but for what its family's file says."""

import hashlib
import os
import subprocess

import cache
from family import ROOT, TargetsError

CARGO = "/usr/bin/cargo"
LOCK = ROOT / "Cargo.lock"
# cargo runs the compiler that it finds first, which may be rustup's; and another lock file is no stable option of it yet.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "RUSTC_BOOTSTRAP": "1"}


def file(family):
    """The lock file of a family: that of the tree, or one in the cache that has other versions of some crates."""
    if not family.crates:
        return LOCK
    words = [LOCK.read_text(), *(word for crate in family.crates for word in crate)]
    made = cache.folder("locks", hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]) / LOCK.name
    with cache.lock("locks"):
        if not made.is_file():
            _change(family.crates, made)
    return made


def options(family):
    """What tells cargo about it; nothing for most families."""
    return [] if not family.crates else _options(file(family))


def _options(path):
    return ["-Zlockfile-path", "--config", f"resolver.lockfile-path='{path}'"]


def _change(crates, made):
    # cargo insists on this name.
    work = made.with_name("new") / LOCK.name
    work.parent.mkdir(exist_ok=True)
    work.write_text(LOCK.read_text())
    for name, version in crates:
        command = [CARGO, *_options(work), "update", "-p", name, "--precise", version]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENT, text=True, capture_output=True)
        if done.returncode != 0:
            raise TargetsError(f"{name} {version} cannot be had:\n{done.stderr.strip()}")
    work.replace(made)
