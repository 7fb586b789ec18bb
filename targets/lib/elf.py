"""Whether a binary is what its target needs, by what `readelf` says of it."""

import re
import subprocess

from family import Elf


def problems(binary, expected):
    """What is wrong with a binary, in sentences; nothing if it is static and of the right class, order and ABI."""
    header, segments, attributes = (_readelf(option, binary) for option in ("-h", "-l", "-A"))
    found = []
    seen = Elf(_bits(header), _endian(header), _field("Machine", header), _float_abi(header, attributes))
    for name in ("bits", "endian", "machine", "float_abi"):
        if getattr(seen, name) != getattr(expected, name):
            found.append(f"{name} is {getattr(seen, name)} instead of {getattr(expected, name)}")
    for segment in ("INTERP", "DYNAMIC"):
        if re.search(rf"^\s+{segment}\s", segments, re.MULTILINE):
            found.append(f"it is not static: it has a segment {segment}")
    return found


def _readelf(option, binary):
    return subprocess.run(["readelf", "-W", option, binary], check=True, capture_output=True, text=True).stdout


def _field(name, header):
    match = re.search(rf"^\s+{name}:\s+(.*?)\s*$", header, re.MULTILINE)
    return match[1] if match else "?"


def _bits(header):
    return int(_field("Class", header).removeprefix("ELF"))


def _endian(header):
    return "little" if "little endian" in _field("Data", header) else "big"


def _float_abi(header, attributes):
    """`soft` when floats travel in integer registers and no floating-point unit is used, `hard` otherwise."""
    machine, flags = _field("Machine", header), _field("Flags", header)
    if machine == "ARM":
        soft = "soft-float ABI" in flags
    elif machine == "MIPS R3000":
        soft = "FP ABI: Soft float" in attributes
    elif machine == "RISC-V":
        soft = "soft-float ABI" in flags
    else:
        # There every processor has a floating-point unit, and the ABI uses it.
        soft = False
    return "soft" if soft else "hard"
