// Asks the package `standardwebhooks`, by the page's lines, of each callback on stdin, and has it sign others.
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { Webhook } from "standardwebhooks";
import { open } from "./open.mjs";

const { open: callbacks, sign } = JSON.parse(readFileSync(0, "utf8"));
const opened = callbacks.map(({ secrets: [secret], headers, body }) => {
  const bytes = Buffer.from(body, "base64");
  let event;
  try {
    event = open(secret, headers, bytes);
  } catch {
    return false;
  }
  return isDeepStrictEqual(event, JSON.parse(bytes));
});
const signed = sign.map(([secret, id, timestamp, body]) => new Webhook(secret).sign(id, new Date(timestamp * 1000), body));
process.stdout.write(JSON.stringify({ opened, signed }));
