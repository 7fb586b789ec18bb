"""The crates that the agent for a target is made of."""

import json
import os
import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import lock
from family import ROOT


@dataclass
class Crate:
    """One crate: `sha256` is that of its archive in the registry, nothing for the agent itself."""

    name: str
    version: str
    licence: str
    sha256: str | None
    folder: Path
    needs: set[tuple[str, str]] = field(default_factory=set)

    @property
    def key(self):
        return self.name, self.version


def linked(family):
    """What is linked into the agent of a family, by name and version; the agent is first."""
    described = {(entry["name"], entry["version"]): entry for entry in _metadata(family)["packages"]}
    locked = tomllib.loads(lock.file(family).read_text())["package"]
    sums = {(entry["name"], entry["version"]): entry.get("checksum") for entry in locked}
    found, path = {}, []
    for depth, key in _tree(family):
        entry = described[key]
        folder = Path(entry["manifest_path"]).parent
        crate = found.setdefault(key, Crate(*key, entry["license"] or "", sums.get(key), folder))
        del path[depth:]
        if path:
            path[-1].needs.add(key)
        path.append(crate)
    return list(found.values())


def _tree(family):
    """Depth, name and version of every line of the tree that cargo resolves for the agent alone."""
    form = ("--prefix", "depth", "--format", " {p}")
    text = _cargo(family, "tree", "-p", "adit", "-e", "normal,no-proc-macro", "--target", family.triple, *form)
    for line in text.splitlines():
        depth, name, version = line.split()[:3]
        yield int(depth), (name, version.removeprefix("v"))


def _metadata(family):
    return json.loads(_cargo(family, "metadata", "--format-version", "1"))


def _cargo(family, *arguments):
    command = [lock.CARGO, *lock.options(family), *arguments, "--locked"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | lock.ENVIRONMENT, check=True, capture_output=True, text=True)
    return done.stdout
