// An OpenID provider that gives access tokens as JWT for client credentials, and lets everybody log in with any password:
// `provider.mjs PORT FOLDER_OF_KEYS REDIRECT KID…` publishes these keys, made when they are not there yet, and signs with the
// first. REDIRECT is where people are sent back to, several with commas between them, or `-`.

import { generateKeyPairSync } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [port, folder, redirect, ...names] = process.argv.slice(2);
// The package is installed in the run's own folder, which is the working directory.
const found = createRequire(process.cwd() + "/node/").resolve("oidc-provider");
const { default: Provider } = await import(pathToFileURL(found).href);

function key(kid) {
  const file = join(folder, `${kid}.json`);
  if (!existsSync(file)) {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const jwk = { ...privateKey.export({ format: "jwk" }), kid, alg: "ES256", use: "sig" };
    writeFileSync(file, JSON.stringify(jwk), { mode: 0o600 });
  }
  return JSON.parse(readFileSync(file, "utf8"));
}

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: "site",
      client_secret: "site-secret",
      grant_types: ["client_credentials"],
      id_token_signed_response_alg: "ES256",
      redirect_uris: [],
      response_types: [],
    },
    {
      client_id: "people",
      client_secret: "site-secret",
      grant_types: ["authorization_code", "refresh_token"],
      id_token_signed_response_alg: "ES256",
      redirect_uris: redirect === "-" ? [] : redirect.split(","),
      response_types: redirect === "-" ? [] : ["code"],
    },
  ],
  claims: { email: ["email", "email_verified"], profile: ["name"] },
  findAccount: (_context, sub) => ({
    accountId: sub,
    claims: () => ({ sub, email: `${sub}@example.com`, email_verified: true, name: sub }),
  }),
  issueRefreshToken: (_context, client) => client.grantTypeAllowed("refresh_token"),
  rotateRefreshToken: true,
  jwks: { keys: names.map(key) },
  features: {
    devInteractions: { enabled: redirect !== "-" },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => "urn:api",
      getResourceServerInfo: (_context, audience) => ({
        audience,
        scope: "read",
        accessTokenFormat: "jwt",
        accessTokenTTL: 600,
        jwt: { sign: { alg: "ES256" } },
      }),
    },
  },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("provider listens"));
