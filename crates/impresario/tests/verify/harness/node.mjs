// Asks the page's code of each callback on stdin.
import { readFileSync } from "node:fs";
import { verify, verifyPlain } from "./receiver.mjs";

const callbacks = JSON.parse(readFileSync(0, "utf8"));
const answers = callbacks.map(({ secrets, headers, body, now }) => {
  const bytes = Buffer.from(body, "base64");
  return [verify(secrets, headers, bytes, now), verifyPlain(secrets[0], headers, bytes)];
});
process.stdout.write(JSON.stringify(answers));
