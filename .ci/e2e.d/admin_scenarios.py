"""A running gateway is looked at and told what to do, by its own commands, while visitors come and go."""

import json
import signal
import socket
import stat
import subprocess
import time
from contextlib import contextmanager

from clients import fetch, read_exactly
from failure import expect, expect_equal
from program import Program, wait_until
from scenario import scenario

NOT_RUNNING, REFUSED, NOTHING_MATCHED = 4, 5, 6


@scenario("files")
def operator_sees_sites_sessions_endpoints_and_streams(deployment):
    with _admin(deployment) as admin:
        expect_equal(stat.S_IMODE(admin.socket.stat().st_mode), 0o600, "mode of the socket")
        [site] = admin.document("sites")["sites"]
        expect_equal((site["state"], site["agent"].split("/")[0]), ("online", "adit"), "the site")
        expect(site["last_heard_ms"] < 30_000 and site["round_trip_ms"] > 0, f"heartbeat and round trip: {site}")
        expect_equal(len(site["endpoints"]), len(deployment.agent_document()["endpoints"]), "endpoints of the site")
        [session] = admin.document("sessions")["sessions"]
        expect_equal([session["session"]], site["sessions"], "the session of the site")
        states = {(one["kind"], one["state"]) for one in admin.document("endpoints")["endpoints"]}
        expect_equal(states, {("agent", "online"), ("cloud", "online")}, "states of the endpoints")
        with deployment.place("raw").socket() as connection:
            connection.sendall(b"E1234")
            expect_equal(read_exactly(connection, 4), b"1234", "echo")
            peer = "{}:{}".format(*connection.getsockname())
            found = [one for one in admin.document("streams")["streams"] if one["visitor"] == peer]
            expect_equal(len(found), 1, f"streams of {peer}")
            expect_equal((found[0]["bytes_to_agent"], found[0]["bytes_from_agent"]), (5, 4), "bytes of the stream")
        text = admin.command("sites").stdout
        expect("1 online, 0 offline" in text and "main/" in text, f"the table:\n{text}")
        expect_equal(admin.command("kick", "--session", "999999").returncode, NOTHING_MATCHED, "status of a wrong number")
        expect_equal(admin.command("kick").returncode, REFUSED, "status of a kick that names nobody")


@scenario("files")
def kicked_and_lost_sites_say_why_they_went(deployment):
    with _admin(deployment) as admin:
        [before] = admin.document("sites")["sites"]
        expect_equal(admin.command("kick", "--credential", before["credential"]).returncode, 0, "status of the kick")

        def is_back():
            [site] = admin.document("sites")["sites"]
            return site if site["sessions"] and site["sessions"] != before["sessions"] else None

        site = wait_until(is_back, "the agent to come back", 30)
        expect_equal(site["last_end"]["cause"], "gateway", "cause of the end")
        expect("operator" in site["last_end"]["reason"], f"reason: {site['last_end']}")
        deployment.wait_until_reachable()
        # Without a word: an agent that leaves in good order gives its addresses back.
        deployment.programs["agent"].signal(signal.SIGKILL)
        deployment.programs["agent"].wait(10)

        def is_gone():
            [site] = admin.document("sites")["sites"]
            return site if site["state"] == "offline" else None

        site = wait_until(is_gone, "the site to be offline", 30)
        expect(site["last_end"]["cause"] in ("agent", "closed", "broken"), f"the end: {site['last_end']}")
        expect("://" not in site["last_end"]["reason"], f"the reason is not in words for people: {site['last_end']}")
        expect_equal({one["state"] for one in admin.document("endpoints", "--credential", site["credential"])["endpoints"]},
                     {"kept"}, "states while the agent is away")
        expect("1 offline" in admin.command("sites").stdout, "the table does not say it")
        deployment.start_agent()


@scenario("files")
def drained_session_ends_when_its_last_visitor_has_gone(deployment):
    with _admin(deployment) as admin:
        [session] = admin.document("sessions")["sessions"]
        with deployment.place("raw").socket() as connection:
            connection.sendall(b"E1234")
            expect_equal(read_exactly(connection, 4), b"1234", "echo")
            done = admin.command("drain", "--session", str(session["session"]))
            expect_equal(done.returncode, 0, f"status ({done.stderr})")
            time.sleep(1)
            connection.sendall(b"5678")
            expect_equal(read_exactly(connection, 4), b"5678", "echo during the drain")
        gone = lambda: all(one["session"] != session["session"] for one in admin.document("sessions")["sessions"])  # noqa: E731
        wait_until(gone, "the session to end", 30)
        deployment.wait_until_reachable()


@scenario("files")
def reload_by_command_names_what_is_wrong_and_events_come_as_they_happen(deployment):
    with _admin(deployment) as admin:
        tail = Program("tail", admin.line("tail", "--json"), deployment.scratch)
        try:
            deployment.write_gateway(admin.file | {"no_such_key": 1})
            refused = admin.command("reload")
            expect_equal(refused.returncode, REFUSED, "status of a reload that is refused")
            expect("no_such_key" in refused.stderr, f"what it says: {refused.stderr}")
            deployment.write_gateway(admin.file)
            expect_equal(admin.command("reload").returncode, 0, "status of a reload")
            deployment.programs["agent"].stop()
            tail.wait_for_log('"site.down"', 20)
            deployment.start_agent()
            tail.wait_for_log('"site.up"', 30)
            for line in tail.logged().splitlines():
                expect(json.loads(line).get("type"), f"a line without a type: {line}")
        finally:
            tail.stop()


@scenario("files")
def admin_client_that_never_reads_costs_nobody_anything(deployment):
    with _admin(deployment) as admin:
        stuck = []
        try:
            for _ in range(80):
                client = socket.socket(socket.AF_UNIX)
                client.connect(str(admin.socket))
                stuck.append(client)
                try:
                    client.sendall(b"GET /v1/endpoints HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
                except (BrokenPipeError, ConnectionResetError):
                    # Beyond the places that there are.
                    pass
            start = time.monotonic()
            for _ in range(20):
                expect_equal(fetch(deployment.place("web"), "/hello").status, 200, "status beside them")
            expect(time.monotonic() - start < 10, f"20 requests took {time.monotonic() - start} s")
            wait_until(lambda: admin.command("sites").returncode == 0, "a place at the socket to be free again", 30)
        finally:
            for client in stuck:
                client.close()


@scenario("files")
def whole_gateway_drains_and_ends_by_command(deployment):
    with _admin(deployment) as admin:
        expect_equal(admin.command("drain", "--all").returncode, 0, "status of the drain")
        expect_equal(deployment.programs["gateway"].wait(60), 0, "status of the gateway")
        expect_equal(admin.command("sites").returncode, NOT_RUNNING, "status when no gateway runs")
        expect(not admin.socket.exists(), "the socket is still there")
        deployment.start_gateway()
        deployment.wait_until_reachable(90)


class _Admin:
    def __init__(self, deployment, file):
        self.deployment, self.file = deployment, file
        self.socket = deployment.gateway_file.parent / "admin.sock"

    def line(self, *arguments):
        return [self.deployment.binaries["adit-gateway"], *arguments, "--config", self.deployment.gateway_file]

    def command(self, *arguments):
        return subprocess.run(self.line(*arguments), capture_output=True, text=True, timeout=60)

    def document(self, *arguments):
        done = self.command(*arguments, "--json")
        expect_equal(done.returncode, 0, f"status of {arguments} ({done.stderr})")
        return json.loads(done.stdout)


@contextmanager
def _admin(deployment):
    """The deployment with an admin socket, at a gateway that was started anew."""
    file = deployment.gateway_document() | {"admin": {"socket": "admin.sock"}, "events": {"settle": "1s"}}
    _restart(deployment, file)
    try:
        yield _Admin(deployment, file)
    finally:
        _restart(deployment, None)


def _restart(deployment, file):
    if deployment.programs["gateway"].is_running():
        deployment.stop_gateway()
    deployment.write_gateway(file)
    deployment.start_gateway()
    if not deployment.programs["agent"].is_running():
        deployment.start_agent()
    deployment.wait_until_reachable(90)
