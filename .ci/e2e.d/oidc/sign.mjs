// Signs whatever it is told with a key of the provider: reads a list of [header, payload] texts from stdin, and prints a list
// of tokens. `sign.mjs KEY_FILE`

import { createPrivateKey, sign } from "node:crypto";
import { readFileSync } from "node:fs";

const key = createPrivateKey({ key: JSON.parse(readFileSync(process.argv[2], "utf8")), format: "jwk" });
const tokens = JSON.parse(readFileSync(0, "utf8")).map(([header, payload]) => {
  const signed = [header, payload].map((text) => Buffer.from(text).toString("base64url")).join(".");
  const signature = sign("sha256", Buffer.from(signed), { key, dsaEncoding: "ieee-p1363" });
  return `${signed}.${signature.toString("base64url")}`;
});
console.log(JSON.stringify(tokens));
