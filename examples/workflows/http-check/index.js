// Checks that an address answers, without a browser.
//
// This one is written by hand: a workflow is any exported object with the brand below, a name and a function `run`. It
// needs no libretto, and, since it never touches `ctx.page`, no Chromium on the server either.
//
// Params:
//   url     what to fetch
//   status  the status it must answer with; 200 by default
//   text    what the body must contain; anything by default
//
// Result: { url, status, ms }. A check that does not hold fails the job, so the schedule's consecutive_failures count it.

export const httpCheck = {
  [Symbol.for("libretto.workflow")]: true,
  name: "http-check",
  inputSchema: {
    type: "object",
    properties: {
      url: { type: "string", format: "uri" },
      status: { type: "integer", minimum: 100, maximum: 599, default: 200 },
      text: { type: "string" },
    },
    required: ["url"],
  },

  async run(_ctx, { url, status = 200, text }) {
    const begin = performance.now();
    const answer = await fetch(url, { redirect: "follow", signal: AbortSignal.timeout(30_000) });
    const body = await answer.text();
    const ms = Math.round(performance.now() - begin);

    if (answer.status !== status) {
      throw new Error(`${url} answered ${answer.status}, expected ${status}`);
    }
    if (text !== undefined && !body.includes(text)) {
      throw new Error(`${url} answered ${answer.status}, but without ${JSON.stringify(text)}`);
    }
    console.log(`${url} answered ${answer.status} in ${ms} ms`);
    return { url, status: answer.status, ms };
  },
};
