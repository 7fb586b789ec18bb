"""One process with an official SDK in it."""

import json
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

from failure import Failure
from program import Program

_FOLDER = Path(__file__).resolve().parent / "sdk"
COMMANDS = {"python": [sys.executable, _FOLDER / "session.py"], "node": ["node", _FOLDER / "session.mjs"]}


class SdkSession:
    """Commands go in, answers come out, each bounded in time: no SDK bounds its own calls."""

    def __init__(self, language, scratch):
        self.language = language
        self._program = Program(
            f"sdk-{language}",
            COMMANDS[language],
            scratch,
            env={"RUST_LOG": "info"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._answers = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._program.stop()

    def connect(self, server, ca_file, authtoken):
        return self._call(do="connect", server=server, ca_file=str(ca_file), authtoken=authtoken)

    def listen(self, name, proto, address, forward_to, **modules):
        """Binds an endpoint and forwards it; the answer has its `id` and `url`."""
        return self._call(
            do="listen", name=name, proto=proto, address=address, forward_to=forward_to, modules=modules
        )

    def unbind(self, name):
        return self._call(do="unbind", name=name)

    def kill(self):
        """Ends the process with no chance to say anything."""
        self._program.signal(signal.SIGKILL)

    def refusal(self, call, *arguments, **named):
        """The text of the error that a call must end with."""
        try:
            answer = call(*arguments, **named)
        except SdkError as error:
            return str(error)
        raise Failure(f"{self.language}: the call should have been refused, it answered {answer}")

    def _call(self, **command):
        self._program.child.stdin.write(json.dumps(command).encode() + b"\n")
        self._program.child.stdin.flush()
        try:
            answer = self._answers.get(timeout=30)
        except queue.Empty:
            raise Failure(f"{self.language}: no answer to {command['do']} within 30 s") from None
        if answer is None:
            raise Failure(f"{self.language}: the process ended at {command['do']}: {self._program.logged()[-2000:]}")
        if "error" in answer:
            raise SdkError(f"{self.language}: {command['do']} failed: {answer['error']}")
        return answer

    def _read(self):
        for line in self._program.child.stdout:
            self._answers.put(json.loads(line))
        self._answers.put(None)


class SdkError(Exception):
    """What the SDK raised."""
