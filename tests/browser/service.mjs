// A `binplz serve` of one's own, on a copy of the demo set in which every derivation is new, and builds that wait for the test.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { appendFile, cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const repository = process.env.BINPLZ_REPOSITORY;

// A package whose source is at a server of the test's, which holds it back. `then`: words of shell that follow on the compiler's.
export class Gate {
  #held = [];
  #open = false;
  #arrived = Promise.withResolvers?.() ?? withResolvers();

  static async make(name, then = "") {
    const gate = new Gate();
    gate.name = name;
    gate.source = `#include <stdio.h>\n// ${name} ${process.pid} ${Date.now()}\nint main(void) { puts("it runs"); return 0; }\n`;
    gate.server = createServer((_, answer) => {
      const give = () => answer.end(gate.source);
      gate.#arrived.resolve();
      if (gate.#open) give();
      else gate.#held.push(give);
    });
    await new Promise((ready) => gate.server.listen(0, "127.0.0.1", ready));
    const url = `http://127.0.0.1:${gate.server.address().port}/${name}-${process.pid}.c`;
    const sha256 = createHash("sha256").update(gate.source).digest("hex");
    gate.nix = `  ${name} = package "${name}" { buildPhase = ''
      echo 'the build of ${name} begins'
      $CC -O1 -o program \${fetchurl { url = "${url}"; sha256 = "${sha256}"; }}
      ${then}
    ''; };\n`;
    return gate;
  }

  // Returns when the build has come to the gate.
  arrived() {
    return this.#arrived.promise;
  }

  open() {
    this.#open = true;
    for (const give of this.#held) give();
  }

  close() {
    this.open();
    this.server.closeAllConnections();
    this.server.close();
  }
}

function withResolvers() {
  const all = {};
  all.promise = new Promise((resolve, reject) => Object.assign(all, { resolve, reject }));
  return all;
}

// Starts a service whose set also has these packages, and returns when its catalogue is ready.
export async function serve(packages, { listen = "127.0.0.1:0", origin } = {}) {
  const dir = await mkdtemp(join(tmpdir(), "binplz-browser."));
  const set = join(dir, "set");
  await cp(join(repository, "tests/fixtures/set"), set, { recursive: true });
  await appendFile(join(set, "builder.sh"), `# ${dir}\n`);
  const failing = join(set, "failing.nix");
  const text = await readFile(failing, "utf8");
  await writeFile(failing, text.replace("lib.recurseIntoAttrs {", () => `lib.recurseIntoAttrs {\n${packages}`));
  const options = ["serve", "--nixpkgs", set, "--data", join(dir, "data"), "--listen", listen];
  if (origin) options.push("--origin", origin);
  const child = spawn(process.env.BINPLZ_PROGRAM, options, { stdio: ["ignore", "ignore", "pipe"] });
  const ended = new Promise((done) => child.on("exit", done));
  const said = [];
  const lines = createInterface({ input: child.stderr });
  const host = await new Promise((resolve, reject) => {
    lines.on("line", (line) => {
      said.push(line);
      const told = / at (http:\/\/\S+)$/.exec(line);
      if (told) resolve(told[1]);
    });
    ended.then(() => reject(new Error(`the service ended:\n${said.join("\n")}`)));
  });
  const stop = async () => {
    child.kill();
    await ended;
    await rm(dir, { recursive: true, force: true });
  };
  const service = { host, dir, stop };
  await until("the catalogue", async () => (await json(service, "/-/health")).pins[0].catalogue === "ready");
  return service;
}

export async function json({ host }, path) {
  const answer = await fetch(host + path, { headers: { accept: "application/json" }, redirect: "manual" });
  return answer.json();
}

// Looks until it is so; gives up after a time that no test is about.
export async function until(what, look) {
  const began = Date.now();
  while (!(await look())) {
    if (Date.now() - began > 300_000) throw new Error(`waited too long for ${what}`);
    await new Promise((wake) => setTimeout(wake, 100));
  }
}
