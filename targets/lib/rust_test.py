"""Compiler and sources of the standard library have to belong together."""

import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import family
import rust
from family import TargetsError


class Match(unittest.TestCase):
    def sources(self, version):
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name in ("library/std/Cargo.toml", "src/version"):
            (folder / name).parent.mkdir(parents=True)
            (folder / name).write_text(f"{version}\n")
        return folder

    def test_same_version_passes(self):
        rust.check_match("1.96.0", self.sources("1.96.0"))

    def test_other_version_is_reported_with_both(self):
        with self.assertRaisesRegex(TargetsError, r"do not match: .* is 1\.96\.0, .* is 1\.97\.0"):
            rust.check_match("1.96.0", self.sources("1.97.0"))

    def test_missing_sources_are_reported(self):
        with self.assertRaisesRegex(TargetsError, "the sources of its standard library are not"):
            rust.check_match("1.96.0", Path("/nonexistent"))

    def check(self, compiler, sources):
        """What a build does first, with a compiler that says it is of this version and comes with these sources."""
        sysroot = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (sysroot / "lib/rustlib/src").mkdir(parents=True)
        (sysroot / "lib/rustlib/src/rust").symlink_to(self.sources(sources))
        rustc = sysroot / "rustc"
        rustc.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "rustc {compiler} (Debian)" || echo {sysroot}\n')
        rustc.chmod(0o755)
        with mock.patch("rust.RUSTC", str(rustc)), mock.patch("debian.install"):
            rust.check()

    def test_build_ends_before_it_begins_when_one_of_the_packages_is_newer(self):
        self.check("1.96.0", "1.96.0")
        for compiler, sources in (("1.97.0", "1.96.0"), ("1.96.0", "1.97.0")):
            with self.assertRaisesRegex(TargetsError, f"{compiler}, .* is {sources}; install the same version of rustc-web"):
                self.check(compiler, sources)


class Flags(unittest.TestCase):
    def test_folder_with_a_space_in_its_name_stays_one_flag(self):
        crates = Path(self.enterContext(tempfile.TemporaryDirectory())) / "a longer path"
        each = family.load("x86_64-unknown-linux-musl")
        with (
            mock.patch.dict(os.environ, ADIT_TARGETS_BUILD=str(crates), RUSTFLAGS="-Cdebuginfo=2"),
            mock.patch("sysroot.make", return_value=crates),
            mock.patch("rust.without_paths", side_effect=lambda folder: [f"--remap-path-prefix={folder}=/build"]),
        ):
            environment = rust.environment(each)
        flags = environment["CARGO_ENCODED_RUSTFLAGS"].split("\x1f")
        self.assertEqual(flags, [*rust.FLAGS, f"--remap-path-prefix={crates}=/build"])
        self.assertNotIn("RUSTFLAGS", environment)


if __name__ == "__main__":
    unittest.main()
