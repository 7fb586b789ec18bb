"""Compiler and sources of the standard library have to belong together."""

import tempfile
import unittest
from pathlib import Path

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


if __name__ == "__main__":
    unittest.main()
