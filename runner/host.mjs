// One run of one workflow, in a process of its own.
//
// In: on stdin, lines of JSON from the server: first the whole job, then `{"t":"go"}`. Nothing of the bundle is loaded
// before `go`, so a process that dies earlier has done nothing and the job can be given to another.
// Out: on descriptor 3, lines of JSON: `ready`, `log`, then one of `result`, `error`, `workflows`. Stdout and stderr
// belong to the workflow. Each line carries the key of the run, which only the server and this module's scope know, so
// a workflow that writes to the descriptor forges nothing.
// End: where stdin ends, the server is gone; this process and its browser go too.

import fs from "node:fs";
import path from "node:path";
import { Console } from "node:console";
import { createRequire } from "node:module";
import { Readable, Writable } from "node:stream";
import { pathToFileURL } from "node:url";
import { inspect, stripVTControlCharacters } from "node:util";
import { Worker } from "node:worker_threads";

// Taken before the bundle is loaded: it may replace any of these, and must not thereby change what the server is told.
const { writeSync, realpathSync } = fs;
const { stringify, parse } = JSON;
const exit = process.reallyExit.bind(process);
const later = globalThis.setTimeout;

const CHANNEL = 3;
const BRAND = Symbol.for("libretto.workflow");
const TEXT_MAX = 32 * 1024;
const SCREENSHOT_MS = 2_000;
const CLOSE_MS = 1_000;

let key = "";
/** Where the bundle is, as it may stand in messages; there it says nothing to the workflow's author. */
let roots = [];
let finished = false;

/** Sends one frame; returns when all of it is in the pipe, so that an exit right after it loses nothing. */
function send(frame) {
  const bytes = Buffer.from(stringify({ k: key, ...frame }) + "\n");
  let at = 0;
  while (at < bytes.length) {
    try {
      at += writeSync(CHANNEL, bytes, at);
    } catch (error) {
      if (error.code !== "EAGAIN") exit(70); // the server closed its end
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
    }
  }
}

/** Sends the frame that ends the run; what comes after it is not sent. */
function finish(frame) {
  if (finished) return;
  finished = true;
  send(frame);
}

// Stdin is read by a thread of its own: a workflow that blocks the main thread still ends with the server. The thread
// reads through its event loop, because a blocking read there would hold up `process.exit`.
const READ_STDIN = `
  const { parentPort } = require("node:worker_threads");
  const { Socket } = require("node:net");
  let text = "";
  const socket = new Socket({ fd: 0, readable: true, writable: false });
  socket.setEncoding("utf8");
  socket.on("data", (chunk) => {
    const lines = (text + chunk).split("\\n");
    text = lines.pop();
    for (const line of lines) parentPort.postMessage(line);
  });
  const gone = () => {
    try { process.kill(-process.pid, "SIGKILL"); } catch {}
    process.kill(process.pid, "SIGKILL");
  };
  socket.on("end", gone);
  socket.on("error", gone);
`;
const stdin = new Worker(READ_STDIN, { eval: true, stdin: false });
const lines = [];
let wake = () => {};
stdin.on("message", (line) => {
  lines.push(line);
  wake();
});

async function nextLine() {
  while (lines.length === 0) await new Promise((resolve) => (wake = resolve));
  return parse(lines.shift());
}

/** Cuts a text to what an error may carry: without colours, halves of characters, and the server's own paths. */
function clean(text) {
  let plain = stripVTControlCharacters(String(text)).toWellFormed();
  for (const root of roots) plain = plain.replaceAll(`file://${root}/`, "").replaceAll(`${root}/`, "");
  return plain.length > TEXT_MAX ? `${plain.slice(0, TEXT_MAX).toWellFormed()}… (cut)` : plain;
}

/** Makes `{name, message, stack}` of whatever was thrown; anything can be. */
function describe(thrown) {
  try {
    if (typeof thrown === "string") return { name: "Error", message: clean(thrown) };
    const object = typeof thrown === "object" && thrown !== null;
    if (object && typeof thrown.message === "string") {
      const name = typeof thrown.name === "string" && thrown.name !== "" ? thrown.name : "Error";
      let message = thrown.message || name;
      if (Array.isArray(thrown.errors)) message += `: ${thrown.errors.map((e) => e?.message ?? String(e)).join("; ")}`;
      let stack = typeof thrown.stack === "string" ? thrown.stack : undefined;
      for (let cause = thrown.cause, i = 0; stack && cause?.stack && i < 5; cause = cause.cause, i++) {
        stack += `\nCaused by: ${cause.stack}`;
      }
      // The frames of this file are the same in every stack, and no help.
      const frames = stack?.split("\n").filter((line) => !line.includes(import.meta.url));
      return { name: clean(name), message: clean(message), stack: frames && clean(frames.join("\n")) };
    }
    return { name: "Error", message: `the workflow threw ${clean(inspect(thrown))}` };
  } catch {
    return { name: "Error", message: "the workflow threw something that cannot be shown" };
  }
}

function fail(kind, thrown, prefix = "") {
  const { name, message, stack } = describe(thrown);
  finish({ t: "error", kind, name, message: prefix + message, stack });
}

/** Sends what `console` prints as log frames, with its level, in pieces and in one order. */
function captureConsole(pieceMax) {
  const to = (level) =>
    new Writable({
      decodeStrings: false,
      write(text, _encoding, done) {
        const message = String(text).replace(/\n$/, "").toWellFormed();
        for (let at = 0; at === 0 || at < message.length; at += pieceMax) {
          send({ t: "log", level, message: message.slice(at, at + pieceMax).toWellFormed() });
        }
        done();
      },
    });
  const [info, warn, error] = ["info", "warn", "error"].map(to);
  const ours = new Console({ stdout: info, stderr: error });
  const warner = new Console({ stdout: warn, stderr: warn });
  for (const [name, method] of Object.entries(ours)) {
    if (typeof method === "function") globalThis.console[name] = method;
  }
  globalThis.console.warn = warner.warn;
}

/** The page of a run that has no browser: nothing happens until it is used. */
function missingPage(message) {
  const use = () => {
    const error = new Error(message);
    error.name = "NoBrowserError";
    throw error;
  };
  // `then` and symbols are asked for by `await` and by `inspect`, which is not using the page.
  const quiet = (property) => typeof property === "symbol" || property === "then" || property === "toJSON";
  return new Proxy(
    {},
    { get: (_target, property) => (quiet(property) ? undefined : use()), set: use, deleteProperty: use, defineProperty: use },
  );
}

async function openBrowser(job) {
  const { chromium } = createRequire(import.meta.url)(path.join(job.modules, "playwright-core"));
  const wanted = job.browser;
  const browser = await chromium.launch({
    executablePath: wanted.executable,
    headless: wanted.headless,
    args: wanted.args,
    proxy: wanted.proxy ?? undefined,
    chromiumSandbox: wanted.sandbox,
    timeout: wanted.launch_timeout_ms,
    // The server ends the tree; a handler here would only delay it.
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false,
  });
  const context = await browser.newContext({ viewport: wanted.viewport });
  const page = await context.newPage();
  return { browser, context, page };
}

async function takeScreenshot(opened, file) {
  const page = opened && [opened.page, ...opened.context.pages()].find((page) => !page.isClosed());
  if (!file || !page) return;
  const shot = page.screenshot({ path: file, timeout: SCREENSHOT_MS, animations: "disabled" }).catch(() => {});
  await Promise.race([shot, new Promise((resolve) => later(resolve, SCREENSHOT_MS))]);
}

const isWorkflow = (value) =>
  (typeof value === "object" || typeof value === "function") &&
  value !== null &&
  value[BRAND] === true &&
  typeof value.name === "string" &&
  typeof value.run === "function";

/** Every workflow that a module exports: itself, in `workflows`, or in its default export. Each object once. */
function workflowsOf(module) {
  const found = new Set();
  const look = (value, depth) => {
    if (isWorkflow(value)) found.add(value);
    else if (depth > 0 && typeof value === "object" && value !== null) {
      for (const inner of Object.values(value)) look(inner, depth - 1);
    }
  };
  for (const [name, value] of Object.entries(module)) {
    // A CommonJS module arrives as its default export, so that one may hold `workflows` again.
    look(value, name === "default" ? 2 : name === "workflows" ? 1 : 0);
  }
  return [...found];
}

async function load(job) {
  const entry = path.join(job.bundle, job.entry);
  if (/\.[cm]?ts$/.test(entry) && !process.features.typescript) {
    throw new Error(
      `the entry point ${job.entry} is TypeScript, which Node ${process.versions.node} does not run: ` +
        "bundle it to JavaScript (for instance with esbuild), or run the server with Node 22.18 or newer",
    );
  }
  return workflowsOf(await import(pathToFileURL(entry).href));
}

/** A schema as JSON, where it is or can be made one; a schema of another kind is not an error. */
function schemaOf(schema) {
  try {
    if (typeof schema?.toJSONSchema === "function") schema = schema.toJSONSchema();
    if (typeof schema !== "object" || schema === null || Array.isArray(schema)) return undefined;
    if (Object.getPrototypeOf(schema) !== Object.prototype) return undefined;
    return parse(stringify(schema));
  } catch {
    return undefined;
  }
}

function summary(workflow) {
  const { startUrl, viewport, gpu, credentialNames } = workflow;
  return {
    name: workflow.name,
    inputSchema: schemaOf(workflow.inputSchema),
    outputSchema: schemaOf(workflow.outputSchema),
    startUrl: typeof startUrl === "string" ? startUrl : undefined,
    viewport:
      Number.isInteger(viewport?.width) && Number.isInteger(viewport?.height)
        ? { width: viewport.width, height: viewport.height }
        : undefined,
    gpu: typeof gpu === "boolean" ? gpu : undefined,
    credentialNames: Array.isArray(credentialNames) ? credentialNames.filter((n) => typeof n === "string") : [],
  };
}

/** The result as JSON text; `undefined` where the workflow returned nothing that JSON has. */
function encode(value) {
  return stringify(value, (_key, inner) => (typeof inner === "string" ? inner.toWellFormed() : inner));
}

/** What ends the process by Node's rules ends the run with a reason instead of a bare exit code. */
function watchForCrashes(endRun) {
  process.on("uncaughtException", (thrown, origin) => {
    const what = origin === "unhandledRejection" ? "an unhandled promise rejection" : "an uncaught exception";
    endRun("process", thrown, `${what} ended the workflow: `);
  });
  process.on("beforeExit", () => {
    const message = "the workflow waits for something that can never happen: nothing is left to do, and it has not returned";
    endRun("process", new Error(message));
  });
}

async function run(job) {
  let opened;
  if (job.browser) {
    try {
      opened = await openBrowser(job);
    } catch (error) {
      fail("browser", error, "Chromium could not be started: ");
      return close();
    }
  }
  let gone = false;
  opened?.browser.on("disconnected", () => (gone = true));
  opened?.page.on("crash", () => (gone = true));
  send({ t: "ready" });
  await nextLine();

  Object.defineProperty(process, "stdin", { value: Readable.from([]), configurable: true });
  captureConsole(job.limits.piece);
  const endRun = async (kind, thrown, prefix) => {
    if (finished) return;
    await takeScreenshot(opened, job.screenshot);
    fail(kind, thrown, prefix);
    await close(opened);
  };
  watchForCrashes(endRun);
  stopOnRequest(opened, job);
  stdin.unref();

  let workflow;
  try {
    const workflows = await load(job);
    workflow = workflows.find((one) => one.name === job.workflow);
    if (!workflow) {
      const names = workflows.map((one) => `"${one.name}"`).join(", ") || "none";
      throw new Error(`${job.entry} does not export a workflow named "${job.workflow}" (it exports: ${names})`);
    }
  } catch (error) {
    return endRun("load", error, "the bundle could not be loaded: ");
  }
  const page = opened?.page ?? missingPage(job.no_browser);
  const startUrl = job.start_url ?? workflow.startUrl;
  if (typeof startUrl === "string") {
    if (!opened) return endRun("configuration", new Error(`the workflow starts at a URL, but ${job.no_browser}`));
    try {
      await page.goto(startUrl);
    } catch (error) {
      return endRun("browser", error, "the start URL could not be opened: ");
    }
  }
  let value;
  try {
    value = await workflow.run({ session: job.session, page }, job.input);
  } catch (error) {
    // Only where the browser went away by itself and the error says so: a workflow may also close it and fail later.
    const { name, message } = describe(error);
    const lost = gone && /closed|crash/i.test(message);
    const unset = !opened && name === "NoBrowserError";
    return endRun(lost ? "browser" : unset ? "configuration" : "workflow", error);
  }
  await answer(value, job, endRun);
  await close(opened);
}

async function answer(value, job, endRun) {
  let json;
  try {
    json = encode(value);
  } catch (error) {
    return endRun("result", error, "the workflow returned a value that JSON cannot carry: ");
  }
  const size = json === undefined ? 0 : Buffer.byteLength(json);
  if (size > job.limits.result) {
    const message = `the result is ${size} bytes of JSON; at most ${job.limits.result} are kept`;
    return endRun("result_too_large", new Error(message));
  }
  finish({ t: "result", json });
}

/** On a time limit the server asks for a last screenshot before it ends the process. */
function stopOnRequest(opened, job) {
  wake = async () => {
    lines.length = 0;
    await takeScreenshot(opened, job.screenshot);
    send({ t: "stopped" });
  };
}

async function close(opened) {
  await Promise.race([opened?.browser.close().catch(() => {}), new Promise((resolve) => later(resolve, CLOSE_MS))]);
  process.exit(0);
}

async function discover(job) {
  captureConsole(job.limits.piece);
  watchForCrashes((kind, thrown, prefix) => {
    fail(kind, thrown, prefix);
    process.exit(0);
  });
  stdin.unref();
  try {
    finish({ t: "workflows", workflows: (await load(job)).map(summary) });
  } catch (error) {
    fail("load", error, "the bundle could not be loaded: ");
  }
  process.exit(0);
}

async function main() {
  const job = await nextLine();
  key = job.key;
  roots = [job.bundle, realpathSync(job.bundle)];
  await (job.mode === "discover" ? discover(job) : run(job));
}

// Not awaited here: at the top level, Node would take a workflow that never returns for a mistake of this module.
main().catch((error) => {
  fail("internal", error, "the runner itself failed: ");
  process.exit(0);
});
