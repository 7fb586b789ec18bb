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
    *("-Oz", "-ffunction-sections", "-fdata-sections", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables"),
    *("-fno-pic", "-Wno-everything"),
)

# What a static program is linked with. musl's other start files are position-independent, which some flags forbid.
LIBRARIES = ("lib/libc.a", "lib/crt1.o", "lib/crti.o", "lib/crtn.o")

# What takes the place of an unwinder, and of more of musl than is needed.
OWN = ("unwind.c", "thread_name.c")

# How compiler and linker are called for one target: `cc` only ever compiles; rustc knows `ld` by its name.
# Of ring's C, what encrypts every byte, and RSA, is for speed. The rest is for a log-in, once a session.
CC = """#!/bin/sh
case "$*" in
    *aes_nohw.c* | *poly1305*.c* | *montgomery.c*) set -- "$@" -O3 ;;
    *crypto/*.c*) set -- "$@" -Oz ;;
esac
exec clang-{llvm} {flags} -nostdlibinc -isystem {sysroot}/include {cflags} "$@" -fno-pic
"""
LD = """#!/bin/sh
exec ld.lld-{llvm} -static {sysroot}/lib/crt1.o {sysroot}/lib/crti.o {sysroot}/lib/thread_name.o -L{sysroot}/lib \\
    --gc-sections --icf=all "$@" -O2 -T {discard} {sysroot}/lib/crtn.o
"""


def make(family):
    """The folder with `cc` and `ld` of a family, which know where its headers and libraries are; made if it is not in the
    cache. It has another name when they are called in another way, by which cargo sees that there is something to do."""
    debian.install(*PACKAGES)
    made = cache.folder("sysroots") / f"{family.triple}-{_key(family)}"
    with cache.lock(f"sysroot-{family.triple}"):
        if not (made / "ready").exists():
            _build(family, made)
        return _tools(family, made)


def fetch():
    """The archive of musl's sources in the cache, from Debian if it is not there."""
    archive = cache.folder("sources") / MUSL
    debian.source("musl", MUSL_SUITE, MUSL, MUSL_SHA256, archive)
    return archive


def _key(family):
    """Changes with whatever the result depends on."""
    parts = [MUSL_SHA256, debian.version(f"clang-{LLVM}"), *family.clang, *CFLAGS]
    parts += [(TARGETS / "lib" / name).read_text() for name in OWN]
    return _hash(*parts)


def _build(family, made):
    shutil.rmtree(made, ignore_errors=True)
    work = made / "build"
    work.mkdir(parents=True)
    with tarfile.open(fetch()) as tar:
        tar.extractall(work, filter="data")
    (source,) = work.glob("musl-*")
    flags = " ".join(family.clang)
    # musl brings its own headers while it is built.
    own = _script(made / "cc-for-musl", f'#!/bin/sh\nexec clang-{LLVM} {flags} "$@"\n')
    environment = {**os.environ, "CC": str(own), "AR": "ar", "RANLIB": "ranlib", "CFLAGS": " ".join(CFLAGS)}
    target = next(flag.split("=")[1] for flag in family.clang if flag.startswith("--target="))
    _run(["./configure", f"--target={target}", f"--prefix={made}", "--disable-shared"], source, environment)
    _run(["make", f"-j{os.cpu_count() or 1}", *LIBRARIES, "install-headers"], source, environment)
    (made / "lib").mkdir()
    for library in LIBRARIES:
        shutil.copy(source / library, made / "lib")
    for name in OWN:
        _run([own, *CFLAGS, "-c", TARGETS / "lib" / name, "-o", (made / "lib" / name).with_suffix(".o")], work, environment)
    _run(["ar", "rcs", made / "lib/libunwind.a", made / "lib/unwind.o"], work, environment)
    shutil.rmtree(work)
    (made / "ready").touch()


def _tools(family, made):
    values = {
        "llvm": LLVM,
        "flags": " ".join(family.clang),
        "sysroot": made,
        "discard": shutil.copy(TARGETS / "lib/discard.ld", made / "lib"),
        "cflags": "-fno-unwind-tables -fno-asynchronous-unwind-tables",
    }
    compiler, linker = CC.format(**values), LD.format(**values)
    folder = made / f"tools-{_hash(compiler, linker)}"
    folder.mkdir(exist_ok=True)
    _script(folder / "cc", compiler)
    _script(folder / "ld", linker)
    return folder


def _hash(*parts):
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


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
