"""Restarts, reloads, drains and cuts of a deployment of two processes."""

import signal
import subprocess
import threading

from clients import CUT_STATUSES, HTTP1, Place, curl_command, curl_status, ends_with_error, fetch, read_exactly
from failure import Failure, expect, expect_equal
from files import DOMAIN
from program import wait_until
from scenario import scenario


@scenario("files")
def both_programs_check_their_files(deployment):
    for command in (
        [deployment.binaries["adit-gateway"], "check", "--config", deployment.gateway_file],
        [deployment.binaries["adit"], "check", "--config", deployment.agent_file],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        expect_equal(done.returncode, 0, f"status of {command[1]} ({done.stdout} {done.stderr})")
        expect(deployment.authtoken not in done.stdout + done.stderr, "check shows the token")


@scenario("files")
def bad_file_is_refused_at_reload_and_the_old_one_stays(deployment):
    gateway, good = deployment.programs["gateway"], deployment.gateway_document()
    deployment.write_gateway(good | {"listeners": {"agents": 7}, "no_such_key": 1})
    mark = gateway.log_size()
    gateway.signal(signal.SIGHUP)
    gateway.wait_for_log("no_such_key", since=mark)
    expect_equal(fetch(deployment.place("web"), "/hello").status, 200, "status after a refused reload")
    expect(gateway.is_running(), "the gateway ended")
    deployment.write_gateway()


@scenario("files")
def reload_adds_an_endpoint_without_touching_open_streams(deployment):
    gateway, document = deployment.programs["gateway"], deployment.gateway_document()
    with deployment.place("raw").socket() as connection:
        connection.sendall(b"E1234")
        expect_equal(read_exactly(connection, 4), b"1234", "echo")
        document["cloud_endpoints"].append(deployment.cloud_endpoint(f"https://added.{DOMAIN}", "https://web.internal"))
        deployment.write_gateway(document)
        gateway.signal(signal.SIGHUP)
        added = Place("https", f"added.{DOMAIN}", deployment.place("web").port, deployment.ca_file)
        wait_until(lambda: fetch(added, "/hello").status == 200, "the new endpoint to answer", 15)
        connection.sendall(b"5678")
        expect_equal(read_exactly(connection, 4), b"5678", "echo after the reload")
    deployment.write_gateway()
    gateway.signal(signal.SIGHUP)
    wait_until(lambda: fetch(added, "/hello").status != 200, "the endpoint to be gone again", 15)


@scenario("files")
def removed_credential_ends_its_session(deployment):
    gateway = deployment.programs["gateway"]
    with deployment.place("raw").socket() as connection:
        connection.sendall(b"E1234")
        expect_equal(read_exactly(connection, 4), b"1234", "echo")
        deployment.write_gateway(credential=deployment.spare_credential())
        gateway.signal(signal.SIGHUP)
        connection.settimeout(15)
        expect(ends_with_error(connection), "a stream of a removed credential ended cleanly")
    deployment.write_gateway()
    gateway.signal(signal.SIGHUP)
    deployment.wait_until_reachable(90)


@scenario("files")
def agent_comes_back_after_a_gateway_crash(deployment):
    gateway, agent = deployment.programs["gateway"], deployment.programs["agent"]
    gateway.signal(signal.SIGKILL)
    gateway.wait(10)
    deployment.start_gateway()
    deployment.wait_until_reachable()
    expect(agent.is_running(), "the agent ended")


@scenario("files")
def killed_agent_resets_downloads(deployment):
    """What a client got is not the whole, and it must learn so."""
    place, agent = deployment.place("web"), deployment.programs["agent"]
    command = curl_command(place, HTTP1, "--limit-rate", "10M", f"{place.url}/stream?bytes={1 << 30}")
    with (
        deployment.place("raw").socket() as connection,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child,
    ):
        connection.sendall(b"H")
        read_exactly(connection, 1 << 20)
        child.stdout.read(1 << 20)
        agent.signal(signal.SIGKILL)
        agent.wait(10)
        expect(ends_with_error(connection), "a raw download ended cleanly although its agent was killed")
        while child.stdout.read(1 << 20):
            pass
        expect(child.wait(60) in CUT_STATUSES, f"curl took a body that was cut for a whole one: {child.returncode}")
    deployment.start_agent()


@scenario("files")
def agent_drains_at_sigterm(deployment):
    """A request in flight ends well, new ones are refused, and the exit status is 0."""
    agent = deployment.programs["agent"]
    status, body = drained_request(deployment, agent)
    expect_equal((status, body), (0, b"firstlast"), "a request in flight during the drain")
    expect_equal(agent.wait(20), 0, "the agent's exit status")
    gone = fetch(deployment.place("web"), "/hello")
    expect(gone.status in (502, 503), f"status without an agent: {gone.status}")
    expect_equal(gone.headers.get("ngrok-error-code"), "ERR_NGROK_3200", "ngrok-error-code without an agent")
    deployment.start_agent()


@scenario("files")
def gateway_drains_at_sigterm(deployment):
    gateway = deployment.programs["gateway"]
    status, body = drained_request(deployment, gateway)
    expect_equal((status, body), (0, b"firstlast"), "a request in flight during the drain")
    expect_equal(gateway.wait(60), 0, "the gateway's exit status")
    deployment.start_gateway()
    deployment.wait_until_reachable()


def drained_request(deployment, program):
    """Asks `program` to end while a response is half sent; lets the upstream finish it; curl's status and the body."""
    web = deployment.upstreams.web
    web.release.clear()
    place = deployment.place("web")
    mark = program.log_size()
    with subprocess.Popen(curl_command(place, HTTP1, "-N", f"{place.url}/hold"), stdout=subprocess.PIPE) as child:
        try:
            expect(web.waiting.acquire(timeout=20), "the request did not reach the upstream")
            body = child.stdout.read(5)
            program.signal(signal.SIGTERM)
            wait_until(lambda: program.log_size() > mark, f"{program.name} to log that it drains", 10)
        finally:
            web.release.set()
        body += child.stdout.read()
        return child.wait(30), body


@scenario("files")
def agent_that_starts_before_its_gateway_connects_later(deployment):
    agent = deployment.programs["agent"]
    expect_equal(deployment.stop_gateway(), 0, "the gateway's exit status")
    agent.signal(signal.SIGTERM)
    expect_equal(agent.wait(30), 0, "the agent's exit status without a gateway")
    starter = threading.Thread(target=deployment.start_agent)
    starter.start()
    deployment.start_gateway()
    starter.join()
    expect_equal(curl_status(deployment.place("web"), "/hello"), 0, "curl's status")


@scenario("files")
def agent_with_a_refused_token_keeps_running(deployment):
    """A refusal is logged with its code and without the token; nobody has to restart the agent after it is mended."""
    agent = deployment.second_agent(deployment.wrong_token())
    try:
        agent.wait_for_log("ERR_NGROK_107")
        expect(agent.is_running(), "the agent ended")
        expect(deployment.wrong_token() not in agent.logged(), "the agent logged its token")
    finally:
        agent.stop()


@scenario("files")
def gateway_is_upgraded_under_load_without_a_failed_request(deployment):
    """A new process takes over the sockets while visitors come, each with a connection of its own, and agents move.

    As a supervisor does it that holds the sockets: the old process ends, then the new one starts.
    """
    place, failures, counts, done = deployment.place("web"), [], [0, 0], threading.Event()

    def visit(number):
        while not done.is_set():
            try:
                answer = fetch(place, "/hello")
                if answer.status != 200:
                    failures.append((answer.status, answer.headers.get("ngrok-error-code")))
            except Failure as failure:
                failures.append(str(failure))
            counts[number] += 1

    visitors = [threading.Thread(target=visit, args=(number,)) for number in range(len(counts))]
    old = deployment.programs["gateway"]
    for visitor in visitors:
        visitor.start()
    try:
        wait_until(lambda: min(counts) > 3, "visitors to be served by the old gateway", 30)
        old.signal(signal.SIGTERM)
        expect_equal(old.wait(60), 0, "the old gateway's exit status")
        deployment.start_gateway()
        before = list(counts)
        wait_until(lambda: all(now > then + 3 for now, then in zip(counts, before)), "visits of the new gateway", 30)
    finally:
        done.set()
        for visitor in visitors:
            visitor.join()
    expect_equal(failures, [], f"failures among {sum(counts)} requests")
