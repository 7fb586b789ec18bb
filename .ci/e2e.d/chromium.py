"""A real browser: Debian's Chromium, without a window and with a profile that nobody had before."""

import itertools
import json
import os
import queue
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from failure import Failure
from files import DOMAIN
from program import Program

_DRIVER = Path(__file__).resolve().parent / "browser" / "visit.mjs"


@dataclass(frozen=True)
class Page:
    """What a visitor sees."""

    url: str
    status: int
    text: str


class Chromium:
    """Each call is bounded in time. With ADIT_E2E_PICTURES=DIR, pictures of pages are kept there."""

    _numbers = itertools.count()

    def __init__(self, scratch):
        chromium = shutil.which("chromium") or "chromium"
        profile = scratch.path(f"browsers/profile-{next(self._numbers)}", "x").parent
        command = ["node", _DRIVER, chromium, profile, DOMAIN]
        self._program = Program("chromium", command, scratch, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._answers = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._program.stop()

    def go(self, url):
        return Page(**self._call(do="go", url=url))

    def log_in(self, name):
        """Fills in the provider's form, and agrees if it asks for that."""
        self._call(do="fill", fields={"login": name, "password": "x"})
        page = self.click("button[type=submit]")
        return self.click("button[type=submit]") if page.url.startswith("http://127.0.0.1:") else page

    def click(self, selector):
        return Page(**self._call(do="click", selector=selector))

    def arrive(self, start):
        """Waits until the browser is at an address that begins with this one."""
        return Page(**self._call(do="arrive", start=start))

    def fetch(self, path):
        """The status that a script of the page gets."""
        return self._call(do="fetch", path=path)["status"]

    def socket(self, path, text):
        return self._call(do="socket", path=path, text=text)["said"]

    def cookies(self):
        """The cookies of the run's own domain."""
        return self._call(do="cookies")["cookies"]

    def forget(self, name):
        self._call(do="forget", name=name)

    def judge(self, width, height, scheme):
        """What axe-core finds at this size, and whether the page is wider than the window."""
        answer = self._call(do="judge", width=width, height=height, scheme=scheme)
        return answer["found"], answer["isTooWide"]

    def shows(self, selector, text, seconds):
        """Waits until a part of the page, which is not loaded again, has these words."""
        self._call(do="shows", selector=selector, text=text, seconds=seconds)

    def changes(self, selector, seconds):
        """Waits until the words of a part change, and tells for how many milliseconds at most the page was busy meanwhile."""
        return self._call(do="changes", selector=selector, seconds=seconds)["busyMs"]

    def count(self, selector):
        return self._call(do="count", selector=selector)["count"]

    def load_ms(self):
        """Milliseconds from the request to the end of loading."""
        return self._call(do="loaded")["ms"]

    def scroll(self, selector, top):
        self._call(do="scroll", selector=selector, top=top)

    def scrolled(self, selector):
        """How far a part is scrolled."""
        return self._call(do="scrolled", selector=selector)["top"]

    def type(self, selector, text):
        self._call(do="type", selector=selector, text=text)

    def picture(self, name, start="body"):
        """Of what is in the window when this part of the page is at its top."""
        if folder := os.environ.get("ADIT_E2E_PICTURES"):
            self._call(do="picture", file=str(Path(folder) / f"{name}.png"), **{"from": start})

    def _call(self, **command):
        self._program.child.stdin.write(json.dumps(command).encode() + b"\n")
        self._program.child.stdin.flush()
        try:
            answer = self._answers.get(timeout=40)
        except queue.Empty:
            raise Failure(f"chromium: no answer to {command} within 40 s") from None
        if answer is None:
            raise Failure(f"chromium: the process ended at {command}: {self._program.logged()[-2000:]}")
        if "error" in answer:
            raise Failure(f"chromium: {command} failed: {answer['error']}")
        return answer

    def _read(self):
        for line in self._program.child.stdout:
            self._answers.put(json.loads(line))
        self._answers.put(None)
