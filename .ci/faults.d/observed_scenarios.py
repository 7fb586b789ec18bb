"""What an operator sees: it costs nobody anything when nobody can write it down or read it, and says what was lost."""

import json
import signal
import socket
import subprocess
import threading
import time
import urllib.request

from clients import Place, ends_with_error, fetch, read_exactly, request_stream
from failure import expect, expect_equal
from fault import fault
from fault_site import Site
from files import DOMAIN
from program import wait_until

MARK = "visitorswords"
DROPPED, WRITTEN = (f'adit_{what}_total{{queue="access_log"}}' for what in ("dropped", "lines_written"))
ROTATIONS = 10


@fault(seconds=90)
def metrics_are_accepted_by_promtool_and_do_not_grow_with_what_visitors_send(case):
    site = Watched(case)
    site.start(1 << 16)
    for _ in range(3):
        annoy(site, 0)
        fetch(site.place("web"), "/no-such-page")
    before = site.metrics()
    checked = subprocess.run(["promtool", "check", "metrics"], input=before, capture_output=True, text=True, timeout=30)
    expect_equal((checked.returncode, checked.stdout + checked.stderr), (0, ""), "promtool's verdict")
    for number in range(1, 60):
        annoy(site, number)
    after = site.metrics()
    expect(total(after, "adit_failures_total{") > 100, f"the visitors were not counted: {after}")
    expect_equal(series(after) - series(before), set(), "series that came with visitors")
    expect(MARK not in after, "the metrics have something of a visitor's")


def annoy(site, number):
    """Requests and connections in which everything that visitors choose is new."""
    word = f"{MARK}{number}"
    heads = [
        f"GET /{word}?{word}={word} HTTP/1.1\r\nHost: {word}.{DOMAIN}\r\n{word}: {word}\r\n",
        f"{word.upper()} /{word} HTTP/1.1\r\nHost: plain.{DOMAIN}\r\nUser-Agent: {word}\r\n",
        f"GET http://{word}.example/{word} HTTP/1.1\r\nHost: {word}.example:8{number:03}\r\n",
        f"GET /{word * 700} HTTP/1.0\r\nHost: {word}\r\nX-Forwarded-Proto: {word}\r\n",
    ]
    for head in heads:
        with socket.create_connection(("127.0.0.1", site.http_port), 10) as visitor:
            visitor.sendall(f"{head}Connection: close\r\n\r\n".encode())
            while visitor.recv(65_536):
                pass
    for name in (f"{word}.{DOMAIN}", f"{word}.example"):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{site.port}", "-servername", name, "-alpn", word]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)


@fault(seconds=90)
def full_disk_costs_lines_of_the_access_log_and_no_visitor_anything(case):
    site = Watched(case, log_folder="disk")
    disk = site.log.parent
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "disk", disk], check=True)
    site.start(1 << 16)
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    mark = site.gateway_log_size()
    start, count = time.monotonic(), 400
    site.ask(count)
    expect(time.monotonic() - start < 20, f"{count} requests took {time.monotonic() - start} s with a full disk")
    lost = lambda: total(site.metrics(), DROPPED)  # noqa: E731
    wait_until(lambda: lost() > count / 2, "lost lines to be counted", 20)
    site.programs["gateway"].wait_for_log("lines are lost", since=mark)
    # A part of a line may be in the file; what comes now is whole again, and nothing of it is lost.
    filler.unlink()
    before = lost()
    site.ask(20, "/after")
    wait_until(lambda: len(site.lines("/after")) == 20, "lines after there is room again", 20)
    expect_equal(lost(), before, "lines that were lost when there was room again")
    expect_equal(total(site.metrics(), WRITTEN), len(site.lines()), "lines that count as written")


@fault(seconds=90)
def rotation_under_load_neither_loses_nor_tears_a_line(case):
    site = Watched(case)
    site.start(1 << 16)
    done, answers = threading.Event(), []

    def visit(number):
        while not done.is_set():
            site.ask(50, f"/hello-{number}")
            answers.append(50)

    visitors = [threading.Thread(target=visit, args=(number,)) for number in range(4)]
    for visitor in visitors:
        visitor.start()
    try:
        for number in range(ROTATIONS):
            size = site.log.stat().st_size
            wait_until(lambda: site.log.stat().st_size > size, "lines to come", 20)
            site.log.rename(site.log.with_suffix(f".{number}"))
            site.programs["gateway"].signal(signal.SIGUSR1)
            wait_until(site.log.exists, "a new file", 20)
    finally:
        done.set()
        for visitor in visitors:
            visitor.join()
    site.stop_gateway()
    files = sorted(site.log.parent.glob("access*"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    expect_equal(len(files), ROTATIONS + 1, "files")
    expect_equal(sum(line.get("path", "").startswith("/hello-") for line in lines), sum(answers), "lines")


@fault(seconds=90, heavy=True)
def revoked_credential_ends_its_streams_within_a_second_and_no_others(case):
    """Its file is taken away; nobody sends a signal. A download of another site goes on."""
    site = Watched(case)
    folder = site.scratch.path("files/credentials/x").parent
    command = [site.binaries["adit-gateway"], "token", "new", "--id", "other", "--account", "main", "--allow-any", "--write", folder]
    token = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout.strip()
    port = site.scratch.port()
    site.gateway["credentials_directory"] = str(folder)
    site.more_endpoints.append(site.cloud_endpoint(f"tcp://gateway.{DOMAIN}:{port}", "tcp://other.internal:7000"))
    site.start(1 << 16)
    document = site.agent_document()
    document["agent"]["authtoken"] = token
    upstream = {"url": site.upstreams.targets()["raw"][1]}
    document["endpoints"] = [{"name": "other", "url": "tcp://other.internal:7000", "upstream": upstream}]
    file = site.scratch.write("files/other.json", json.dumps(document), 0o600)
    other = case.program("other-agent", [site.binaries["adit"], "run", "--config", file])
    other.wait_for_log("online at")
    with site.place("raw").socket() as kept, Place("tcp", f"gateway.{DOMAIN}", port).socket() as cut:
        for connection in (kept, cut):
            request_stream(connection, 1 << 30)
            read_exactly(connection, 1 << 16)
        (folder / "other.yml").unlink()
        start = time.monotonic()
        expect(ends_with_error(cut), "a download of a revoked credential ended cleanly")
        took = time.monotonic() - start
        expect(took < 1, f"the streams of a revoked credential ended after {took:.2f} s")
        read_exactly(kept, 8 << 20)
    print(f"a revoked credential's download ended after {took * 1000:.0f} ms; the other one went on")


class Watched(Site):
    """A site whose gateway has an access log and an admin listener; it has an endpoint without TLS."""

    def __init__(self, case, log_folder="logs-of-access", **gateway):
        self.log = case.scratch.path(log_folder, "access.log")
        self.admin_port = case.scratch.port()
        self.more_endpoints = []
        admin = {"listen": f"127.0.0.1:{self.admin_port}"}
        super().__init__(case, gateway={"access_log": {"file": str(self.log)}, "admin": admin, **gateway})
        case.sites.append(self)

    def gateway_document(self):
        document = super().gateway_document()
        return document | {"cloud_endpoints": document["cloud_endpoints"] + self.more_endpoints}

    def agent_document(self):
        document = super().agent_document()
        web = self.upstreams.targets()["web"][1]
        document["endpoints"].append({"name": "plain", "url": "http://plain.internal", "upstream": {"url": web}})
        return document

    def ask(self, count, path="/hello"):
        """So many requests, one after the other on one connection, all answered."""
        head = f"GET {path} HTTP/1.1\r\nHost: plain.{DOMAIN}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", self.http_port), 10) as visitor:
            reader = visitor.makefile("rb")
            for _ in range(count):
                visitor.sendall(head)
                read_answer(reader)

    def lines(self, path=""):
        """The lines of the access log that are whole, those of one path if it is given."""
        lines = []
        for line in self.log.read_bytes().split(b"\n")[:-1]:
            try:
                lines.append(json.loads(line))
            except ValueError:
                # It was cut short by a full disk.
                pass
        return [line for line in lines if path in ("", line.get("path"))]

    def metrics(self):
        """What is shown is at most a second old; this is newer than all that was done before."""
        time.sleep(1.1)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=10) as answer:
            return answer.read().decode()


def read_answer(reader):
    """Reads one answer of HTTP/1.1 with a length."""
    expect(reader.readline().startswith(b"HTTP/1.1 "), "the visitor was not answered")
    length = 0
    while line := reader.readline().strip().lower():
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    reader.read(length)


def series(text):
    """Names and labels of all samples."""
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


def total(text, name):
    """The sum over all samples whose name and labels begin like this."""
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))
