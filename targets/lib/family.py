"""The files `targets/TRIPLE.toml`: what is particular to one family of routers."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

TARGETS = Path(__file__).resolve().parent.parent
ROOT = TARGETS.parent


class TargetsError(Exception):
    """What a script of this folder ends with: the message is for the person who ran it."""


@dataclass(frozen=True)
class Elf:
    """What `readelf` must say of a binary: class in bits, byte order, machine, and the ABI for floats."""

    bits: int
    endian: str
    machine: str
    float_abi: str


@dataclass(frozen=True)
class Build:
    """One build of a family: its name, whether it is the small one, and how many bytes it may have."""

    name: str
    small: bool
    budget: int


@dataclass(frozen=True)
class Family:
    """One router family. `clang` are the flags that choose CPU and ABI for C, `rustc` those for Rust."""

    triple: str
    tier: int
    clang: tuple[str, ...]
    rustc: tuple[str, ...]
    # How the crate ring is optimised, if otherwise than Cargo.toml says.
    ring: str | None
    elf: Elf
    qemu_arch: str
    qemu_cpu: str
    builds: tuple[Build, ...]
    # Names and versions of crates that are not those of Cargo.lock, in the order in which they have to be changed.
    crates: tuple[tuple[str, str], ...] = ()

    @property
    def qemu(self):
        """The emulator with the smallest CPU of the family, as the beginning of a command."""
        return [f"qemu-{self.qemu_arch}-static", "-cpu", self.qemu_cpu]


def triples(tier=None):
    """All triples of a tier, or of both, in alphabetical order."""
    return [triple for triple in _all_triples() if tier in (None, load(triple).tier)]


def _all_triples():
    return sorted(path.stem for path in TARGETS.glob("*-linux-musl*.toml"))


def named(words):
    """The triples that a command line names: `tier1` and `tier2` mean all of a tier."""
    tiers = {"tier1": 1, "tier2": 2}
    return [triple for word in words for triple in (triples(tiers[word]) if word in tiers else [word])]


def load(triple):
    """The family of a triple; an unknown one is an error that names those there are."""
    path = TARGETS / f"{triple}.toml"
    if not path.is_file():
        known = "\n  ".join(_all_triples())
        raise TargetsError(f"there is no target {triple!r}; there are:\n  {known}")
    data = tomllib.loads(path.read_text())
    elf = data["elf"]
    return Family(
        triple=triple,
        tier=data["tier"],
        clang=tuple(data["compile"]["clang"]),
        rustc=tuple(data["compile"].get("rustc", ())),
        ring=data["compile"].get("ring"),
        elf=Elf(elf["class"], elf["endian"], elf["machine"], elf["float"]),
        qemu_arch=data["qemu"]["arch"],
        qemu_cpu=data["qemu"]["cpu"],
        builds=tuple(_builds(triple, data["size"])),
        crates=tuple(data.get("crates", {}).items()),
    )


def _builds(triple, size):
    yield Build(triple, False, size["budget"])
    if "small_budget" in size:
        yield Build(f"{triple} small", True, size["small_budget"])
