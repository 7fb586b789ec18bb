"""A system clock for one program, which the scenario sets while the program runs. The monotonic clock stays as it is."""

from pathlib import Path


class Clock:
    """`environment` makes a program go by this clock; it is right until it is set."""

    def __init__(self, scratch):
        self._file = scratch.path("clock")
        self.set_right()
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "TZ": "UTC",
        }

    def set(self, moment):
        """Jumps to `1970-01-01 00:00:30` or the like, and goes on from there."""
        self._write(f"@{moment}\n")

    def set_right(self):
        self._write("+0\n")

    def _write(self, text):
        # At once: a program that reads half of it would take that for the time.
        new = self._file.with_suffix(".new")
        new.write_text(text)
        new.replace(self._file)
