"""The licences under which a binary may be passed on: of the crates in it, of Rust's standard library, and of musl."""

import re
import tarfile
from pathlib import Path

NAME = re.compile(r"(licen[cs]e|copying|copyright|notice)", re.IGNORECASE)
RUST = Path("/usr/share/doc/rust-web-src/copyright")


def text(crates, musl_archive):
    """All of them in one text. A licence that several have word for word is in it once, under all of their names."""
    owners = {}
    for name, words in _all(crates, musl_archive):
        owners.setdefault(words.strip(), []).append(name)
    parts = [f"{', '.join(names)}\n{'=' * 79}\n\n{words}\n" for words, names in owners.items()]
    return "What adit's binary is made of, and the licences of it.\n\n" + "\n\n".join(parts)


def _all(crates, musl_archive):
    for crate in sorted(crates, key=lambda crate: crate.key):
        for path in sorted(crate.folder.iterdir()):
            if path.is_file() and NAME.match(path.name):
                yield f"{crate.name} {crate.version}", path.read_text(errors="replace")
    yield "Rust's standard library", RUST.read_text(errors="replace")
    with tarfile.open(musl_archive) as tar:
        (member,) = [member for member in tar if re.fullmatch(r"musl-[^/]*/COPYRIGHT", member.name)]
        yield "musl", tar.extractfile(member).read().decode()
