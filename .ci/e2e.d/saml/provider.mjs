// An identity provider of SAML (npm's samlp) at which everybody is logged in already as ann:
// `provider.mjs PORT KEY CERTIFICATE ACS asks|- [SP_CERTIFICATE SP_PUBLIC_KEY]` encrypts assertions for whoever has the
// certificate. With `asks`, there is a page with a link on it before.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";

const [port, keyFile, certificateFile, acs, asks, serviceFile, publicFile] = process.argv.slice(2);
const samlp = createRequire(process.cwd() + "/node/")("samlp");
const at = `http://127.0.0.1:${port}`;
const [key, cert] = [keyFile, certificateFile].map((file) => readFileSync(file));
const encryption = serviceFile && {
  encryptionCert: readFileSync(serviceFile),
  encryptionPublicKey: readFileSync(publicFile),
  encryptionAlgorithm: "http://www.w3.org/2009/xmlenc11#aes256-gcm",
};

const auth = samlp.auth({
  issuer: `${at}/metadata`,
  cert,
  key,
  recipient: acs,
  destination: acs,
  lifetimeInSeconds: 300,
  getPostURL: (audience, request, http, callback) => callback(null, acs),
  getUserFromRequest: () => ({
    id: "ann",
    displayName: "Ann",
    name: { familyName: "Site", givenName: "Ann" },
    emails: [{ value: "ann@example.com" }],
  }),
  ...encryption,
});

const redirect = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect";
const body = cert.toString().replace(/-----[A-Z ]+-----/g, "").replace(/\s/g, "");
const metadata = `<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="${at}/metadata">
<IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol"><KeyDescriptor use="signing">
<KeyInfo xmlns="http://www.w3.org/2000/09/xmldsig#"><X509Data><X509Certificate>${body}</X509Certificate></X509Data></KeyInfo>
</KeyDescriptor><SingleSignOnService Binding="${redirect}" Location="${at}/sso"/></IDPSSODescriptor></EntityDescriptor>`;

createServer((request, response) => {
  const url = new URL(request.url, at);
  if (url.pathname === "/metadata") {
    response.end(metadata);
    return;
  }
  if (asks === "asks" && !url.searchParams.has("sure")) {
    url.searchParams.set("sure", "1");
    response.setHeader("Content-Type", "text/html");
    response.end(`<a href="${url.href.replaceAll("&", "&amp;")}">Log in as ann</a>`);
    return;
  }
  request.query = Object.fromEntries(url.searchParams);
  response.set = (name, value) => response.setHeader(name, value);
  response.send = (...parts) => response.end(String(parts.at(-1)));
  auth(request, response, (error) => {
    response.statusCode = 500;
    response.end(String(error?.stack));
  });
}).listen(Number(port), "127.0.0.1");
