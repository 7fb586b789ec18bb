"""What an agent must do on every target: log in and bind, carry HTTP and raw TCP both ways, come back, and end."""

import json
import subprocess

import stream
from clients import HTTP1, HTTP2, download_digest, fetch, read_exactly, upload
from failure import expect, expect_equal
from lifecycle_scenarios import (
    agent_comes_back_after_a_gateway_crash,
    agent_drains_at_sigterm,
    both_programs_check_their_files,
    killed_agent_resets_downloads,
)
from tcp_scenarios import (
    client_that_resets_ends_the_upstream_connection,
    download_that_the_upstream_resets_is_an_error,
    half_close_passes_and_the_answer_still_comes,
    raw_bytes_are_echoed_whole,
    tcp_upstream_that_is_down_closes_at_once,
)

LENGTH = 64 << 20


def named(suite, build):
    """The scenarios of a suite with their names in the report."""
    return [(f"{build}: {function.__name__.replace('_', ' ')}", function) for function in suite]


def agent_logs_in_and_binds(router):
    """The log says so, and keeps the token to itself."""
    agent = router.programs["agent"]
    for url in ("https://web.internal", "tcp://raw.internal:7000"):
        agent.wait_for_log(url)
    expect(router.authtoken not in agent.logged(), "the agent logged its token")


def requests_are_answered(router):
    for version in (HTTP1, HTTP2):
        response = fetch(router.place("web"), "/hello", version=version)
        expect_equal((response.status, response.body), (200, b"hello from the upstream\n"), f"answer with {version}")


def sixty_four_mebibytes_come_down_by_http(router):
    digest = download_digest(router.place("web"), f"/stream?bytes={LENGTH}", HTTP1)
    expect_equal(digest, stream.digest(LENGTH), "SHA-256 of what came down")


def sixty_four_mebibytes_go_up_by_http(router):
    answer = json.loads(upload(router.place("web"), "/", HTTP2, stream.blocks(LENGTH), LENGTH))
    expect_equal(answer, {"sha256": stream.digest(LENGTH), "bytes": LENGTH}, "what the upstream got")


def a_mebibyte_is_echoed(router):
    block = next(stream.blocks(1 << 20))
    with router.place("raw").socket() as connection:
        connection.sendall(b"E" + block)
        expect(read_exactly(connection, len(block)) == block, "what came back is not what was sent")


def unusable_file_is_refused_by_name(router):
    """Exit status and text reach whoever sets the box up."""
    file = router.scratch.write("files/unusable.json", '{"version": 3, "agent": {"connect_url": 7}, "endpoints": []}')
    command = [router.binaries["adit"], "check", "--config", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    expect_equal(done.returncode, 3, "the exit status")
    expect("agent.connect_url" in done.stderr, f"the key is not named: {done.stderr}")


def what_the_small_build_lacks_is_missed_by_name(router):
    """It trusts nobody unless it is told whom, and has no certificates of its own."""
    trusting = router.agent_document()
    del trusting["agent"]["connect_cas"]
    expect_refused(router, trusting, "agent.connect_cas", "built without the bundled authorities")
    ending = router.agent_document()
    ends = {"server_certificate": "/nonexistent/cert.pem", "server_private_key": "/nonexistent/key.pem"}
    place = {"name": "ending", "url": "tls://ending.internal", "upstream": {"url": "tcp://127.0.0.1:9"}}
    ending["endpoints"].append(place | {"agent_tls_termination": ends})
    expect_refused(router, ending, "agent_tls_termination.server_certificate", "built without certificates of its own")


def expect_refused(router, document, *words):
    file = router.scratch.write("files/refused.json", json.dumps(document), 0o600)
    done = subprocess.run([router.binaries["adit"], "check", "--config", file], capture_output=True, text=True, timeout=20)
    expect_equal(done.returncode, 3, "the exit status")
    for text in words:
        expect(text in done.stderr, f"{text!r} is not said: {done.stderr}")


# Those that restart things come last.
SHORT = (
    both_programs_check_their_files,
    unusable_file_is_refused_by_name,
    agent_logs_in_and_binds,
    requests_are_answered,
    a_mebibyte_is_echoed,
    half_close_passes_and_the_answer_still_comes,
    tcp_upstream_that_is_down_closes_at_once,
    agent_drains_at_sigterm,
)
FULL = (
    *SHORT[:-1],
    sixty_four_mebibytes_come_down_by_http,
    sixty_four_mebibytes_go_up_by_http,
    raw_bytes_are_echoed_whole,
    download_that_the_upstream_resets_is_an_error,
    client_that_resets_ends_the_upstream_connection,
    killed_agent_resets_downloads,
    agent_comes_back_after_a_gateway_crash,
    agent_drains_at_sigterm,
)
SMALL = (*SHORT[:-1], what_the_small_build_lacks_is_missed_by_name, SHORT[-1])
