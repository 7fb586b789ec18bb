"""The C side of a target: musl as a static library, the little that std wants of an unwinder, compiler and linker."""

import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import cache
import debian
from family import TARGETS, TargetsError

MUSL_VERSION = "1.2.5"
MUSL = f"musl_{MUSL_VERSION}.orig.tar.gz"
MUSL_SHA256 = "a9a118bbe84d8764da0ea0d28b3ab3fae8477fc7e4085d90102b8596fc7c75e4"
# Debian 13: it keeps this version for its lifetime, and it is the one that Rust itself ships.
MUSL_SUITE = "trixie"

LLVM = "22"
PACKAGES = (f"clang-{LLVM}", f"lld-{LLVM}", "make", "binutils")

CFLAGS = (
    *("-Os", "-ffunction-sections", "-fdata-sections", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables"),
    "-Wno-everything",
)

# What a static program is linked with. musl's other start files are position-independent, which some flags forbid.
LIBRARIES = ("lib/libc.a", "lib/crt1.o", "lib/crti.o", "lib/crtn.o")

# How compiler and linker are called for one target: `cc` only ever compiles; rustc knows `ld` by its name.
CC = """#!/bin/sh
exec clang-{llvm} {flags} -nostdlibinc -isystem {sysroot}/include {cflags} "$@" -fno-pic
"""
LD = """#!/bin/sh
exec ld.lld-{llvm} -static {sysroot}/lib/crt1.o {sysroot}/lib/crti.o -L{sysroot}/lib "$@" --gc-sections -T {discard} \\
    {sysroot}/lib/crtn.o
"""


def make(family):
    """The folder with `bin/cc`, `bin/ld`, `include` and `lib` of a family; made if it is not in the cache."""
    debian.install(*PACKAGES)
    made = cache.folder("sysroots") / f"{family.triple}-{_key(family)}"
    with cache.lock(f"sysroot-{family.triple}"):
        if not (made / "ready").exists():
            _build(family, made)
        _write_tools(family, made)
    return made


def _key(family):
    """Changes with whatever the result depends on."""
    parts = [MUSL_SHA256, debian.version(f"clang-{LLVM}"), *family.clang, *CFLAGS]
    parts.append((TARGETS / "lib/unwind.c").read_text())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _build(family, made):
    shutil.rmtree(made, ignore_errors=True)
    work = made / "build"
    (made / "bin").mkdir(parents=True)
    work.mkdir()
    archive = cache.folder("sources") / MUSL
    debian.source("musl", MUSL_SUITE, MUSL, MUSL_SHA256, archive)
    with tarfile.open(archive) as tar:
        tar.extractall(work, filter="data")
    (source,) = work.glob("musl-*")
    flags = " ".join(family.clang)
    # musl brings its own headers while it is built.
    own = _script(made / "bin/cc-for-musl", f'#!/bin/sh\nexec clang-{LLVM} {flags} "$@"\n')
    environment = {**os.environ, "CC": str(own), "AR": "ar", "RANLIB": "ranlib", "CFLAGS": " ".join(CFLAGS)}
    target = next(flag.split("=")[1] for flag in family.clang if flag.startswith("--target="))
    _run(["./configure", f"--target={target}", f"--prefix={made}", "--disable-shared"], source, environment)
    _run(["make", f"-j{os.cpu_count() or 1}", *LIBRARIES, "install-headers"], source, environment)
    (made / "lib").mkdir()
    for library in LIBRARIES:
        shutil.copy(source / library, made / "lib")
    _run([own, *CFLAGS, "-c", TARGETS / "lib/unwind.c", "-o", "unwind.o"], work, environment)
    _run(["ar", "rcs", made / "lib/libunwind.a", "unwind.o"], work, environment)
    shutil.rmtree(work)
    (made / "ready").touch()


def _write_tools(family, made):
    values = {
        "llvm": LLVM,
        "flags": " ".join(family.clang),
        "sysroot": made,
        "discard": shutil.copy(TARGETS / "lib/discard.ld", made / "lib"),
        "cflags": "-fno-unwind-tables -fno-asynchronous-unwind-tables",
    }
    _script(made / "bin/cc", CC.format(**values))
    _script(made / "bin/ld", LD.format(**values))


def _script(path, text):
    # In one step: another build may be calling it.
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.chmod(0o755)
    return fresh.replace(path)


def _run(command, folder, environment):
    done = subprocess.run(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise TargetsError(f"{Path(command[0]).name} failed while making musl:\n{done.stdout[-3000:]}")
