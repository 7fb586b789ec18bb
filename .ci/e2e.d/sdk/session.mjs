// A session of the Node SDK, driven by lines of JSON on standard input; one line of JSON answers each.
// The same commands as session.py: connect, listen, unbind, stop.

import readline from "node:readline";
import { createRequire } from "node:module";

// The package is installed in the run's own folder, which is the working directory.
const ngrok = createRequire(process.cwd() + "/node/")("@ngrok/ngrok");
const listeners = new Map();
let session;

const commands = {
  async connect({ authtoken, server, ca_file }) {
    session = await new ngrok.SessionBuilder().authtoken(authtoken).serverAddr(server).rootCas(ca_file).connect();
    return {};
  },
  async listen({ name, proto, address, forward_to, modules }) {
    const listener = await endpoint(proto, address, modules).listenAndForward(forward_to);
    listeners.set(name, listener);
    return { id: listener.id(), url: listener.url() };
  },
  async unbind({ name }) {
    await listeners.get(name).close();
    listeners.delete(name);
    return {};
  },
  async stop() {
    process.exit(0);
  },
};

function endpoint(proto, address, modules) {
  if (proto === "https") return withModules(session.httpEndpoint().domain(address), modules);
  if (proto === "tls") return session.tlsEndpoint().domain(address);
  return address ? session.tcpEndpoint().remoteAddr(address) : session.tcpEndpoint();
}

function withModules(builder, modules) {
  if ("compression" in modules) builder.compression();
  if ("circuit_breaker" in modules) builder.circuitBreaker(modules.circuit_breaker);
  if ("oauth" in modules) {
    const { provider, allow_emails, allow_domains, client_id, client_secret } = modules.oauth;
    builder.oauth(provider, allow_emails, allow_domains, [], client_id, client_secret);
  }
  if ("oidc" in modules) {
    const { issuer_url, client_id, client_secret, allow_emails, allow_domains } = modules.oidc;
    builder.oidc(issuer_url, client_id, client_secret, allow_emails, allow_domains, []);
  }
  if ("webhook_verification" in modules) builder.webhookVerification(...modules.webhook_verification);
  return builder;
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = await commands[command.do](command);
  } catch (error) {
    answer = { error: `${error.message} ${error.errorCode ?? ""}` };
  }
  console.log(JSON.stringify(answer));
}
process.exit(0);
