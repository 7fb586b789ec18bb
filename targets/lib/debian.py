"""What comes from Debian's registry: packages, and the source of a package."""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from family import ROOT, TargetsError

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def install(*packages):
    """Installs what is missing; whoever may not do that learns what to install."""
    done = subprocess.run([ROOT / ".ci/packages", *packages], text=True, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise TargetsError(f"these Debian packages are needed: {' '.join(packages)}\n{done.stderr.strip()}")


def version(package):
    """The installed version of a package, or nothing."""
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], text=True, capture_output=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def source(package, suite, file, sha256, target):
    """Fetches the upstream archive of a source package to `target`, unless it is there.

    apt verifies it against Debian's signature, this function against `sha256`. Lists and settings of the system stay
    as they are.
    """
    if target.is_file() and _sha256(target) == sha256:
        return
    with tempfile.TemporaryDirectory(prefix="adit-source-") as home:
        home = Path(home)
        for name in ("lists", "cache"):
            (home / name).mkdir()
        (home / "sources.list").write_text(f"deb-src [signed-by={KEYRING}] {_mirror()} {suite} main\n")
        apt = ["apt-get", "-qq"]
        for option in (
            f"Dir::Etc::SourceList={home}/sources.list",
            "Dir::Etc::SourceParts=/dev/null",
            f"Dir::State::Lists={home}/lists",
            f"Dir::Cache={home}/cache",
            "APT::Sandbox::User=",
        ):
            apt += ["-o", option]
        for command in (["update"], ["source", "--download-only", "--tar-only", f"{package}/{suite}"]):
            done = subprocess.run([*apt, *command], cwd=home, text=True, capture_output=True)
            if done.returncode != 0:
                raise TargetsError(f"apt-get {command[0]} for the source of {package} failed:\n{done.stderr.strip()}")
        archive = home / file
        if not archive.is_file():
            there = ", ".join(sorted(path.name for path in home.glob(f"{package}_*")))
            raise TargetsError(f"{suite} no longer has {file} but {there}: update version and SHA-256 in targets/lib/sysroot.py")
        if _sha256(archive) != sha256:
            raise TargetsError(f"{file} has SHA-256 {_sha256(archive)} instead of {sha256}")
        shutil.move(archive, target)


def _mirror():
    """The mirror that this system gets its packages of Debian from."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"]
    found = subprocess.run(command, text=True, capture_output=True).stdout.split()
    if not found:
        raise TargetsError("apt-get knows no mirror of Debian: run `apt-get update` once, or name one in /etc/apt")
    return found[0]


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
