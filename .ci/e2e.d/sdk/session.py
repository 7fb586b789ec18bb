"""A session of the Python SDK, driven by lines of JSON on standard input; one line of JSON answers each.

The same commands as session.mjs: connect, listen, unbind, stop.
"""

import asyncio
import json
import sys

import ngrok


async def main():
    session, listeners = None, {}
    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        try:
            match command["do"]:
                case "connect":
                    builder = ngrok.SessionBuilder().authtoken(command["authtoken"]).server_addr(command["server"])
                    session = await builder.root_cas(command["ca_file"]).connect()
                    answer = {}
                case "listen":
                    listener = await endpoint(session, command).listen_and_forward(command["forward_to"])
                    listeners[command["name"]] = listener
                    answer = {"id": listener.id(), "url": listener.url()}
                case "unbind":
                    await listeners.pop(command["name"]).close()
                    answer = {}
                case "stop":
                    return
        except Exception as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


def endpoint(session, command):
    match command["proto"]:
        case "https":
            return with_modules(session.http_endpoint().domain(command["address"]), command["modules"])
        case "tcp":
            builder = session.tcp_endpoint()
            return builder.remote_addr(command["address"]) if command["address"] else builder
        case "tls":
            return session.tls_endpoint().domain(command["address"])


def with_modules(builder, modules):
    if "compression" in modules:
        builder = builder.compression()
    if "circuit_breaker" in modules:
        builder = builder.circuit_breaker(modules["circuit_breaker"])
    if "oauth" in modules:
        builder = builder.oauth(**modules["oauth"])
    if "oidc" in modules:
        builder = builder.oidc(**modules["oidc"])
    if "webhook_verification" in modules:
        builder = builder.webhook_verification(*modules["webhook_verification"])
    return builder


asyncio.run(main())
