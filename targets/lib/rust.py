"""Rust for a target: Debian's compiler with its own sources of the standard library, which is built with the agent."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import cache
import debian
import lock
import sysroot
from family import ROOT, TargetsError

PACKAGES = ("rustc-web", "cargo-web", "rust-web-src")
RUSTC, CARGO = "/usr/bin/rustc", lock.CARGO

FLAGS_WITH_TABLES = ("-Ctarget-feature=+crt-static", "-Clink-self-contained=no", "-Crelocation-model=static")
# Nothing unwinds with panic=abort, so nothing reads the tables for it.
FLAGS = (*FLAGS_WITH_TABLES, "-Cforce-unwind-tables=no")
# Panics that say nothing, and so need no place. And where a message shows a value as `derive(Debug)` does, which is in few and
# for developers, the value's name without its fields.
SILENT = ("-Zunstable-options", "-Cpanic=immediate-abort", "-Zfmt-debug=shallow", "-Zlocation-detail=none")

# Without the symboliser for backtraces: a router has no debug information for it.
STD = ("-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size")


def check():
    """Installs compiler and sources, and makes sure that they belong together."""
    debian.install(*PACKAGES)
    check_match(version(), Path(_rustc("--print", "sysroot")) / "lib/rustlib/src/rust")


def check_match(compiler, sources):
    """Fails when the sources of the standard library are not those of the compiler, whose version is `compiler`.

    Only the compiler that it came with can build it; any other ends in errors in `core` that say nothing of the reason.
    """
    file = sources / "src/version"
    if not (sources / "library/std/Cargo.toml").is_file() or not file.is_file():
        raise TargetsError(f"{RUSTC} is there, the sources of its standard library are not: no {file}")
    version = file.read_text().strip()
    if version != compiler:
        raise TargetsError(
            f"the compiler and the sources of the standard library do not match: {RUSTC} is {compiler}, {sources} is "
            f"{version}; install the same version of {', '.join(PACKAGES)}"
        )


def version():
    """The version of the compiler, and with it of the standard library."""
    return _rustc("--version").split()[1]


def _rustc(*arguments):
    return subprocess.run([RUSTC, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def environment(family, flags=FLAGS):
    """The variables with which cargo builds for a family."""
    tools = sysroot.make(family)
    crates = Path(os.environ.get("ADIT_TARGETS_BUILD") or cache.folder("target"))
    if set(SILENT) <= set(flags):
        # Cargo takes crates with other flags for the same ones: in one folder each build would begin by undoing the other.
        crates = crates / "small"
    name = family.triple.replace("-", "_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RUSTUP_", "CARGO_BUILD_"))}
    for key in ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "CFLAGS"):
        kept.pop(key, None)
    return kept | {
        # Which also opens the flags that build the standard library, as a nightly would.
        **lock.ENVIRONMENT,
        "RUSTC": RUSTC,
        "CARGO_INCREMENTAL": "0",
        # The crate `libc` and std take musl for an old one, whose time ends in 2038 on 32 bits, unless they are told.
        "RUST_LIBC_UNSTABLE_MUSL_V1_2_3": "1",
        "CARGO_TARGET_DIR": str(crates),
        f"CARGO_TARGET_{name.upper()}_LINKER": str(tools / "ld"),
        # Encoded, because folders may have spaces in their names. Only the target's crates get them.
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join([*flags, *family.rustc, *without_paths(crates)]),
        f"CC_{name}": str(tools / "cc"),
        f"AR_{name}": "/usr/bin/ar",
        **({"SOURCE_DATE_EPOCH": source_date()} if source_date() else {}),
    }


def without_paths(crates):
    """Flags that give every folder of this machine a name that is the same on all: messages and hashes contain them."""
    registry = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo") / "registry/src"
    if not registry.is_dir():
        subprocess.run([CARGO, "fetch", "--locked"], cwd=ROOT, check=True)
    # A registry's folder is called after its address.
    names = {ROOT: "adit", crates: "build"} | {path: "crates" for path in sorted(registry.iterdir())}
    return [f"--remap-path-prefix={path}=/{name}" for path, name in names.items()]


def source_date():
    """The time of the sources in seconds since 1970: what a packager says, or that of the commit; else nothing."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    # Sources inside of somebody else's repository have no commit of their own.
    if given or not (ROOT / ".git").exists():
        return given
    command = ["git", "-C", ROOT, "log", "-1", "--no-show-signature", "--format=%ct"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def path(family, small=False):
    """Where the agent of a family is after `agent`."""
    return ROOT / "target/routers" / family.triple / ("adit-small" if small else "adit")


def agent(family, small=False):
    """Builds the agent as it is shipped, the small one with panics that say nothing; returns its path."""
    binary = build(family, "--no-default-features", flags=(*FLAGS, *SILENT)) if small else build(family)
    place = path(family, small)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(binary, place)
    return place


def build(family, *arguments, flags=FLAGS, std=STD):
    """Builds the agent for a family; returns where the binary is until the next build."""
    ring = ("--config", f'profile.firmware.package.ring.opt-level="{family.ring}"') if family.ring else ()
    return _cargo(family, flags, "build", "--profile", "firmware", "--bin", "adit", *ring, *std, *arguments)["adit"]


def tests(family, *selection):
    """Builds tests of the agent that `selection` names to cargo; returns the paths of their programs by their names."""
    # With what the agent has of std, and so without the symboliser for backtraces, whose crates take a while to build.
    std = ("-Zbuild-std=std,panic_abort,test", *STD[1:], "-Zpanic-abort-tests")
    return _cargo(family, FLAGS, "test", "--no-run", "--profile", "emulated", *selection, *std)


def _cargo(family, flags, command, *arguments):
    """Runs cargo for a family; returns the paths of the programs that it made, or of the tests if they were wanted, by
    the names of what they are made from."""
    line = [CARGO, *lock.options(family), command, "--locked", "-p", "adit", "--target", family.triple, *arguments]
    line += ["--message-format", "json-render-diagnostics"]
    done = subprocess.run(line, cwd=ROOT, env=environment(family, flags), stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise TargetsError(f"the build for {family.triple} failed")
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    made = [message for message in messages if message.get("executable")]
    wanted = [message for message in made if message["profile"]["test"] == (command == "test")]
    return {message["target"]["name"]: Path(message["executable"]) for message in wanted}
