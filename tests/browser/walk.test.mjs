// What people do, in a browser: real pages, real builds.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

import { launch } from "chrome-launcher";
import lighthouse from "lighthouse";
import { chromium } from "playwright-core";

import { Gate, json, serve, until } from "./service.mjs";

const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
const run = promisify(execFile);
const axe = await readFile(new URL("./node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const hostile = await readFile(join(process.env.BINPLZ_REPOSITORY, "tests/fixtures/hostile/packages.nix"), "utf8");
const shots = process.env.BINPLZ_SHOTS;

let service, browser, gates;

before(async () => {
  gates = {
    watched: await Gate.make("watched"),
    unlucky: await Gate.make("unlucky", "echo 'error: it is not to be'; exit 1"),
    plain: await Gate.make("plain"),
    seen: await Gate.make("seen"),
  };
  service = await serve(hostile + Object.values(gates).map((gate) => gate.nix).join(""));
  browser = await chromium.launch({ executablePath: process.env.BINPLZ_CHROMIUM, args: FLAGS });
});

after(async () => {
  for (const gate of Object.values(gates ?? {})) gate.close();
  await browser?.close();
  await service?.stop();
});

// A page of its own, which must not complain, nor ask anybody but the service.
async function open(options = {}) {
  const context = await browser.newContext({ baseURL: service.host, viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.complaints = [];
  page.sizes = [];
  page.on("console", (message) => {
    // The browser says so of every page that is no 200.
    if (message.type() === "error" && !/status of (202|300|4\d\d|503)/.test(message.text())) page.complaints.push(message.text());
  });
  page.on("pageerror", (error) => page.complaints.push(error.message));
  page.on("dialog", (dialog) => page.complaints.push(`a dialog: ${dialog.message()}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(service.host)) page.complaints.push(`it asks for ${request.url()}`);
  });
  page.on("requestfinished", (request) => page.sizes.push(request.sizes()));
  return page;
}

async function close(page) {
  assert.deepEqual(page.complaints, []);
  await page.context().close();
}

async function shoot(page, name) {
  if (!shots) return;
  await mkdir(shots, { recursive: true });
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
}

const state = (page, wanted) => page.locator(`#state[data-state="${wanted}"]`).waitFor({ timeout: 300_000 });

test("search, open a package, start its build, watch it to the end, copy the command, run it, download", async () => {
  const page = await open({ permissions: ["clipboard-read", "clipboard-write"], acceptDownloads: true });
  await page.goto("/");
  await page.getByRole("searchbox").pressSequentially("watch");
  await page.locator("#results").getByRole("link", { name: "failing.watched", exact: true }).click();
  await page.getByRole("link", { name: "Build it" }).click();
  assert.equal((await json(service, "/-/status/failing.watched")).state, "unasked");
  await page.getByRole("button", { name: "Build it now" }).click();
  await gates.watched.arrived();
  // It is being built, and the page says so by itself.
  await page.locator('#steps [aria-current][data-phase="building"]').waitFor();
  await page.locator("#done").filter({ hasText: "of 2 derivations built" }).waitFor();
  await shoot(page, "building");
  gates.watched.open();
  await state(page, "ready");
  assert.match(await page.getByRole("status").first().textContent(), /built/);
  const command = page.locator(".cmd.hero");
  await command.getByRole("button", { name: "Copy" }).click();
  await command.getByRole("button", { name: "Copied" }).waitFor();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  assert.equal(copied, await command.locator("code").textContent());
  const dir = await mkdtemp(join(service.dir, "copied."));
  await run("sh", ["-c", copied], { cwd: dir });
  assert.equal((await run(join(dir, "watched"))).stdout, "it runs\n");
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Download" }).click()]);
  const sha256 = createHash("sha256").update(await readFile(await download.path())).digest("hex");
  assert.ok((await page.locator("dl").textContent()).includes(sha256));
  await shoot(page, "ready");
  await close(page);
});

test("a build that fails is watched to its end, and shows why, and the log's last lines", async () => {
  const page = await open();
  await page.goto("/failing.unlucky");
  await page.getByRole("button", { name: "Build it now" }).click();
  await gates.unlucky.arrived();
  await page.locator('#steps [aria-current][data-phase="building"]').waitFor();
  gates.unlucky.open();
  await state(page, "failed");
  assert.match(await page.locator("#says").textContent(), /it is not to be/);
  assert.match(await page.locator("#log").textContent(), /the build of unlucky begins\n.*it is not to be/s);
  await page.getByRole("link", { name: "Full log" }).click();
  assert.match(await page.textContent("body"), /it is not to be/);
  await page.goto("/-/builds");
  await page.getByText("it is not to be").waitFor();
  await close(page);
});

test("without JavaScript, on a phone, in the dark: search, build, wait, and the command", async () => {
  const page = await open({ javaScriptEnabled: false, viewport: { width: 360, height: 740 }, colorScheme: "dark" });
  await page.goto("/");
  await page.getByRole("searchbox").fill("plain");
  await page.getByRole("button", { name: "Search" }).click();
  await page.getByRole("link", { name: "failing.plain", exact: true }).click();
  await page.getByRole("link", { name: "Build it" }).click();
  await page.getByRole("button", { name: "Build it now" }).click();
  await gates.plain.arrived();
  await until("the page's own refresh", async () => (await page.locator("#state").textContent()) === "building");
  assert.equal(await page.getByRole("button", { name: "Copy" }).count(), 0);
  await shoot(page, "building-plain");
  gates.plain.open();
  await state(page, "ready");
  assert.match(await page.locator(".cmd.hero code").textContent(), /^curl -L \S+\/failing\.plain -o plain && chmod \+x plain$/);
  await close(page);
});

test("what the page tells of a build while it runs is what the server would render", async () => {
  const page = await open();
  await page.goto("/failing.seen");
  await page.getByRole("button", { name: "Build it now" }).click();
  await gates.seen.arrived();
  await page.locator('#steps [aria-current][data-phase="building"]').waitFor();
  await page.locator("#done").filter({ hasText: "0 of 2" }).waitFor();
  const rendered = await open({ javaScriptEnabled: false });
  await rendered.goto("/-/status/failing.seen");
  // The estimate changes with time.
  const told = async (from, part) => (await from.locator(part).textContent()).replace(/, about [^(]* left/, "");
  for (const part of ["#state", "#steps", "#says", "#done"]) {
    assert.equal(await told(page, part), await told(rendered, part), part);
  }
  gates.seen.open();
  await state(page, "ready");
  await close(rendered);
  await close(page);
});

test("with the keyboard alone: past the header, to the search, to the first result", async () => {
  const page = await open();
  await page.goto("/");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
  await page.keyboard.press("/");
  await page.keyboard.type("tree");
  await page.locator("#results").getByRole("link", { name: "tree", exact: true }).waitFor();
  for (const _ of ["the button", "the result"]) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/-/p/tree");
  await close(page);
});

test("a hostile package shows as text on every page", async () => {
  const build = (target) => fetch(`${service.host}/-/build/${target}`, { method: "POST" });
  for (const target of ["failing.hostile", "failing.hostileFails", "failing.hostileMain"]) await build(target);
  for (const target of ["failing.hostile", "failing.hostileFails", "failing.hostileMain"]) {
    await until(target, async () => !["queued", "building"].includes((await json(service, `/-/status/${target}`)).state));
  }
  const page = await open();
  for (const path of [
    "/-/search?q=hostile",
    "/-/search?q=%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AE",
    "/-/p/failing.hostile",
    "/-/p/failing.hostileMain",
    "/-/status/failing.hostile",
    "/-/status/failing.hostileFails",
    "/-/status/failing.hostileMain",
    "/failing.hostile/nosuch",
    "/-/builds",
    "/-/log/failing.hostile",
  ]) {
    await page.goto(path);
    const { text, scripts, odd } = await page.evaluate(() => ({
      text: document.body.textContent,
      scripts: document.querySelectorAll("script").length,
      odd: document.querySelectorAll("main b, main script, main style, main img, main iframe, [onerror], [onclick]").length,
    }));
    assert.ok(scripts <= 1 && odd === 0, `${path}: ${odd} unknown elements`);
    assert.doesNotMatch(text, /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u061c]/, path);
    await shoot(page, `hostile-${path.replaceAll(/\W+/g, "-")}`);
  }
  await page.goto("/-/p/failing.hostile");
  assert.match(await page.textContent("main"), /<script>/);
  await close(page);
});

// What every page is looked at for, at both widths and in both colours.
const PAGES = {
  home: "/",
  search: "/-/search?q=re",
  nothing: "/-/search?q=nosuchthing",
  package: "/-/p/tree",
  many: "/-/p/moreutils",
  refused: "/-/p/failing.broken",
  unbuilt: "/dash",
  choice: "/-/status/moreutils",
  failed: "/-/status/failing.unlucky",
  ready: "/-/status/failing.watched",
  unknown: "/nosuchprogram",
  unreadable: "/a..b",
  builds: "/-/builds",
  service: "/-/health",
};

test("every page is for everybody: contrast, names, roles, no wider than a phone, 30 kB, nothing from elsewhere", async () => {
  await fetch(`${service.host}/-/build/moreutils`, { method: "POST" });
  await until("moreutils", async () => (await json(service, "/-/status/moreutils")).state === "ready");
  for (const width of [360, 1280]) {
    for (const colorScheme of ["light", "dark"]) {
      const page = await open({ viewport: { width, height: 800 }, colorScheme, reducedMotion: "reduce", bypassCSP: true });
      for (const [name, path] of Object.entries(PAGES)) {
        const where = `${name} at ${width} px, ${colorScheme}`;
        await page.goto(path);
        const sizes = await Promise.all(page.sizes.splice(0));
        const bytes = sizes.reduce((sum, { responseBodySize, responseHeadersSize }) => sum + responseBodySize + responseHeadersSize, 0);
        assert.ok(bytes > 0 && bytes <= 30_000, `${where}: ${bytes} bytes`);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.ok(wide <= 0, `${where}: ${wide} px too wide`);
        await shoot(page, `${name}-${width}-${colorScheme}`);
        // Axe is no part of the page, whose policy refuses foreign scripts.
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => window.axe.run());
        const told = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).join(" ")}`);
        assert.deepEqual(told, [], where);
      }
      await close(page);
    }
  }
});

test("looking starts nothing: no page, and no link that any page has", async () => {
  const page = await open();
  const seen = new Set();
  const ask = async (path) => {
    if (seen.has(path) || seen.size > 150) return;
    seen.add(path);
    await page.request.get(path, { headers: { accept: "text/html" }, maxRedirects: 0 });
  };
  const before = await json(service, "/-/builds");
  for (const path of Object.values(PAGES)) {
    await page.goto(path);
    const links = await page.evaluate(() => [...document.querySelectorAll("a[href]")].map((link) => link.href));
    for (const link of links.filter((link) => link.startsWith(service.host))) await ask(link);
  }
  const after = await json(service, "/-/builds");
  const names = (builds) => Object.values(builds).flat().map((line) => line.package).sort();
  assert.deepEqual(names(after), names(before));
  assert.ok(seen.size > 20);
  await close(page);
});

test("an audit finds nothing serious: what counts for performance, accessibility and good practice", async (t) => {
  const chrome = await launch({ chromePath: process.env.BINPLZ_CHROMIUM, chromeFlags: FLAGS });
  try {
    for (const path of [PAGES.home, PAGES.package, PAGES.failed]) {
      // Some of it is the time of a processor that is shared: the best of three.
      let serious = [];
      for (let tries = 0; tries < 3; tries += 1) {
        const { lhr } = await lighthouse(service.host + path, { port: chrome.port, logLevel: "error", onlyCategories: ["performance", "accessibility", "best-practices"] });
        const scores = Object.values(lhr.categories).map(({ id, score }) => `${id} ${score}`);
        t.diagnostic(`${path}: ${scores.join(", ")}, ${lhr.audits["total-byte-weight"].numericValue} bytes, interactive after ${Math.round(lhr.audits.interactive.numericValue)} ms of slow 4G`);
        const counted = Object.values(lhr.categories).flatMap(({ id, auditRefs }) => auditRefs.filter(({ weight }) => weight > 0).map((ref) => ({ id, audit: lhr.audits[ref.id] })));
        // Lighthouse calls it red from there on.
        serious = counted.filter(({ audit }) => audit.score !== null && audit.score < 0.5).map(({ audit }) => audit.title);
        if (serious.length === 0) break;
      }
      assert.deepEqual(serious, [], path);
    }
  } finally {
    chrome.kill();
  }
});
