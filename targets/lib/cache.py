"""Where things are kept from one run to the next: outside the tree, and never needed for a correct build."""

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path


def folder(*parts):
    """A folder below `ADIT_TARGETS_CACHE`, or below the user's cache; it is made."""
    home = os.environ.get("ADIT_TARGETS_CACHE")
    if home:
        base = Path(home).resolve()
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adit-targets"
    path = base.joinpath(*parts)
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def lock(name):
    """Keeps two runs from making the same thing at the same time."""
    with open(folder() / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
