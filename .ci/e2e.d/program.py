"""A program that a scenario starts: its output goes to a file, and it never outlives the run."""

import os
import signal
import subprocess
import time

from failure import Failure


class Program:
    """A running child process."""

    def __init__(self, name, arguments, scratch, env=None, user=None, stdin=None, stdout=None, pass_fds=()):
        self.name = name
        self.log = scratch.path("logs", f"{name}.log")
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                [str(argument) for argument in arguments],
                stdin=stdin or subprocess.DEVNULL,
                stdout=stdout or log,
                stderr=log,
                cwd=scratch.folder,
                env={**os.environ, **(env or {})},
                user=user,
                group=user,
                extra_groups=[] if user else None,
                start_new_session=True,
                pass_fds=pass_fds,
            )

    @property
    def pid(self):
        return self.child.pid

    def is_running(self):
        return self.child.poll() is None

    def signal(self, number):
        self.child.send_signal(number)

    def wait(self, seconds):
        """The exit status; a program that does not end in time is a failure."""
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not end within {seconds} s") from None

    def wait_for_log(self, text, seconds=20, since=0):
        """Waits until `text` has been logged behind offset `since`."""
        return wait_until(lambda: text in self.logged(since), f"{self.name} to log {text!r}", seconds, self)

    def logged(self, since=0):
        return self.log.read_bytes()[since:].decode(errors="replace")

    def log_size(self):
        return self.log.stat().st_size

    def stop(self):
        """Ends it and everything that it started; they share a process group of their own."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                break
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                continue
        for stream in (self.child.stdin, self.child.stdout):
            if stream:
                stream.close()


def wait_until(condition, what, seconds, program=None):
    """Polls until `condition` returns something true, and returns that."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if program and not program.is_running():
            raise Failure(f"{program.name} ended with status {program.child.returncode} while waiting for {what}")
        if time.monotonic() > end:
            raise Failure(f"waited {seconds} s in vain for {what}")
        time.sleep(0.02)
