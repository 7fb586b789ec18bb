// A headless Chromium, driven by lines of JSON on standard input; one line of JSON answers each:
// `visit.mjs CHROMIUM PROFILE_FOLDER DOMAIN` sends all names below DOMAIN to this machine.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import * as readline from "node:readline";

const [executablePath, profile, domain] = process.argv.slice(2);
// The package is installed in the run's own folder, which is the working directory.
const packages = createRequire(process.cwd() + "/node/");
const { default: playwright } = await import(pathToFileURL(packages.resolve("playwright-core")).href);

const context = await playwright.chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  // The authority of the run is nobody's; what certificates are worth is tried elsewhere.
  ignoreHTTPSErrors: true,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    `--host-resolver-rules=MAP *.${domain} 127.0.0.1`,
  ],
});
context.setDefaultTimeout(15_000);
const page = context.pages()[0] ?? (await context.newPage());
let status = 0;
page.on("response", (response) => {
  if (response.request().isNavigationRequest() && response.frame() === page.mainFrame()) status = response.status();
});

// Where nobody answers, the browser has a page of its own.
async function arrived(navigation) {
  status = 0;
  try {
    await navigation;
  } catch (error) {
    if (!error.message.includes("net::ERR_")) throw error;
    await page.waitForURL(/^chrome-error:/);
    return { url: page.url(), status: 0, text: error.message };
  }
  await page.waitForLoadState();
  return { url: page.url(), status, text: await page.innerText("body") };
}

const commands = {
  async go({ url }) {
    return arrived(page.goto(url));
  },
  async fill({ fields }) {
    for (const [name, value] of Object.entries(fields)) await page.fill(`[name="${name}"]`, value);
    return {};
  },
  async click({ selector }) {
    return arrived(Promise.all([page.waitForNavigation(), page.click(selector)]));
  },
  // Pages with a form that sends itself lead there without a call.
  async arrive({ start }) {
    await page.waitForURL((url) => url.href.startsWith(start));
    await page.waitForLoadState();
    return { url: page.url(), status, text: await page.innerText("body") };
  },
  // What a script of the page gets, or how a WebSocket of it ends.
  async fetch({ path }) {
    return { status: await page.evaluate(async (path) => (await fetch(path, { redirect: "manual" })).status, path) };
  },
  async socket({ path, text }) {
    const said = ([path, text]) =>
      new Promise((resolve) => {
        const socket = new WebSocket(`wss://${location.host}${path}`);
        socket.onopen = () => socket.send(text);
        socket.onmessage = (event) => resolve(`said ${event.data}`);
        socket.onerror = () => resolve("refused");
      });
    return { said: await page.evaluate(said, [path, text]) };
  },
  async cookies() {
    const names = (await context.cookies()).filter((cookie) => cookie.domain.endsWith(domain));
    return { cookies: names.map(({ name, domain, secure, httpOnly, sameSite }) => ({ name, domain, secure, httpOnly, sameSite })) };
  },
  async forget({ name }) {
    await context.clearCookies({ name: new RegExp(name) });
    return {};
  },
  // How the page does at a size and in a scheme of colours: what axe-core finds, and whether it is wider than the window.
  async judge({ width, height, scheme }) {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme: scheme });
    await page.evaluate(await readFile(packages.resolve("axe-core/axe.min.js"), "utf8"));
    const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
    const isTooWide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    const where = ({ nodes }) => nodes.slice(0, 3).map((node) => node.target.join(" "));
    return { isTooWide, found: violations.map((one) => ({ id: one.id, impact: one.impact, where: where(one) })) };
  },
  // Waits until a part of the page, which is not loaded again, has these words.
  async shows({ selector, text, seconds }) {
    await page.waitForFunction(([selector, text]) => document.querySelector(selector)?.innerText.includes(text), [selector, text], {
      timeout: seconds * 1000,
      polling: 100,
    });
    return {};
  },
  // The same until its words are others; for how long at most the page has done nothing else meanwhile.
  async changes({ selector, seconds }) {
    const watched = ([selector, ms]) =>
      new Promise((resolve, reject) => {
        let [busyMs, last] = [0, performance.now()];
        const pulse = setInterval(() => {
          busyMs = Math.max(busyMs, performance.now() - last);
          last = performance.now();
        });
        const finish = (settle, value) => {
          clearInterval(pulse);
          observer.disconnect();
          settle(value());
        };
        const late = setTimeout(() => finish(reject, () => new Error(`${selector} has not changed`)), ms);
        const observer = new MutationObserver(() => {
          clearTimeout(late);
          // It has yet to be drawn.
          setTimeout(() => finish(resolve, () => busyMs), 500);
        });
        observer.observe(document.querySelector(selector), { childList: true, characterData: true, subtree: true });
      });
    return { busyMs: await page.evaluate(watched, [selector, seconds * 1000]) };
  },
  async count({ selector }) {
    return { count: await page.locator(selector).count() };
  },
  async loaded() {
    return { ms: await page.evaluate(() => performance.getEntriesByType("navigation")[0].loadEventEnd) };
  },
  async scroll({ selector, top }) {
    await page.locator(selector).evaluate((part, top) => part.scrollTo(0, top), top);
    return {};
  },
  async scrolled({ selector }) {
    return { top: await page.locator(selector).evaluate((part) => part.scrollTop) };
  },
  async type({ selector, text }) {
    await page.fill(selector, text);
    return {};
  },
  async picture({ file, from }) {
    await page.locator(from).first().evaluate((part) => part.scrollIntoView());
    await page.screenshot({ path: file });
    return {};
  },
  async stop() {
    await context.close();
    process.exit(0);
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = await commands[command.do](command);
  } catch (error) {
    answer = { error: error.message };
  }
  console.log(JSON.stringify(answer));
}
process.exit(0);
