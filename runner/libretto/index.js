// The `libretto` that the server provides to bundles which import it instead of carrying it.
//
// A workflow is any object with this brand, a name and a function `run`; everything here only makes such an object.
// Checking the input against its schema is the server's work: it is done before a run is queued.

const BRAND = Symbol.for("libretto.workflow");

/**
 * Makes a workflow: `workflow(name, handler)` or `workflow(name, options, handler)`.
 *
 * `handler(ctx, input)` is called once a run, with `ctx.page` (a Playwright page), `ctx.session` (the job's id), and the
 * schedule's or the job's `params` as `input`; what it returns is the result. Options, all optional: `input` and
 * `output` (JSON Schemas), `startUrl`, `viewport` (`{width, height}`), `gpu`, `credentialNames`.
 */
export function workflow(name, optionsOrHandler, maybeHandler) {
  const handler = maybeHandler ?? optionsOrHandler;
  const options = maybeHandler === undefined ? {} : (optionsOrHandler ?? {});
  if (typeof name !== "string" || name === "") {
    throw new TypeError("workflow(name, handler): the name must be a string that is not empty");
  }
  if (typeof handler !== "function") {
    throw new TypeError(`workflow("${name}", handler): the handler must be a function`);
  }
  return {
    [BRAND]: true,
    name,
    inputSchema: options.input ?? options.inputSchema,
    outputSchema: options.output ?? options.outputSchema,
    startUrl: options.startUrl,
    viewport: options.viewport,
    gpu: options.gpu,
    credentialNames: options.credentialNames ?? options.credentials,
    async run(ctx, input) {
      return await handler(ctx, input);
    },
  };
}

/** Stops a workflow that is being written, for a look at the page; a deployed one has nobody to look. */
export async function pause() {
  if (process.env.NODE_ENV === "production") {
    throw new Error("pause() is for writing a workflow; take it out of what you deploy");
  }
}

export default { workflow, pause };
