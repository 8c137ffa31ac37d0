// The pictures of README.md: node pictures.mjs DIRECTORY (see scripts/pictures).

import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

import { chromium } from "playwright-core";

import { serve } from "./service.mjs";
import { terminal } from "./terminal.mjs";

const PORT = 8080;
// How wide a terminal is, in characters.
const COLUMNS = 104;
// How much of a page is shown: the package, its command and its programs.
const PAGE = { width: 860, height: 640 };
// The commands in the terminal.
const COMMANDS = [
  `curl -sSL 'localhost:${PORT}/tree?wait' -o tree && chmod +x tree`,
  "./tree --version",
  "ldd ./tree",
  "sha256sum tree",
  `curl -sSI localhost:${PORT}/tree | grep -i sha256`,
  "./tree -sh --noreport",
];

const run = promisify(execFile);
const pictures = process.argv[2];
await mkdir(pictures, { recursive: true });
const service = await serve("", { listen: `127.0.0.1:${PORT}`, origin: `http://localhost:${PORT}` });
let browser;
try {
  const home = join(service.dir, "home");
  await mkdir(home);
  const session = [];
  for (const command of COMMANDS) session.push({ command, output: await type(command, home) });
  await writeFile(join(pictures, "terminal.svg"), terminal(session, COLUMNS));

  browser = await chromium.launch({ executablePath: process.env.BINPLZ_CHROMIUM, args: ["--headless", "--no-sandbox", "--disable-gpu"] });
  for (const colorScheme of ["light", "dark"]) {
    const page = await browser.newPage({ viewport: PAGE, deviceScaleFactor: 1.5, colorScheme });
    await page.goto(`${service.host}/-/p/tree`);
    await page.screenshot({ path: join(pictures, `package-${colorScheme}.png`) });
    await page.close();
  }
} finally {
  await browser?.close();
  await service.stop();
}

// Runs a command in a terminal, and returns the bytes that it has written there.
async function type(command, cwd) {
  const shell = `stty cols ${COLUMNS} rows 40; ${command}`;
  // Programs say by their exit status what the picture shows in words: `ldd` fails for a static program.
  const { stdout } = await run("script", ["--quiet", "--command", shell, "/dev/null"], { cwd, timeout: 120_000, env: { ...process.env, LC_ALL: "C.UTF-8", TERM: "xterm" } });
  return stdout;
}
