"""How large a binary is, alone and as the compressed file system of a router holds it; what it may be, and what it was."""

import json
import lzma

from family import TARGETS

FILE = TARGETS / "sizes.json"
# Growth over the recorded size up to which nothing has to be said.
GROWTH_PERCENT = 3


def of(binary):
    """Bytes of the file, and of the same compressed as `xz -9e` does."""
    data = binary.read_bytes()
    return len(data), len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def recorded():
    """What was recorded last: name of a build -> `{"bytes": …, "xz": …}`."""
    return json.loads(FILE.read_text()) if FILE.is_file() else {}


def record(measured):
    """Adds sizes to the record, in a form in which a change is one line of a diff."""
    lines = [f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted((recorded() | measured).items())]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def problems(name, measured, budget, before):
    """What is wrong with the size of a build, in sentences. `before` is its record, or nothing if there is none."""
    found = []
    size = measured["bytes"]
    if size > budget:
        found.append(f"{name} has {size:,} bytes, {size - budget:,} more than its budget of {budget:,}")
    if not before:
        found.append(f"{name} has no recorded size: `targets/check --record`")
    elif size * 100 > before["bytes"] * (100 + GROWTH_PERCENT):
        found.append(
            f"{name} has {size:,} bytes, more than {GROWTH_PERCENT} % above the recorded {before['bytes']:,}: find out "
            "why; if it is worth it, `targets/check --record` and commit targets/sizes.json with the reason"
        )
    return found
