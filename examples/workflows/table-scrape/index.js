// Reads a table of a page into rows, each an object with the column heads as keys.
//
// Params:
//   url       the page with the table
//   selector  which table; by default the first one
//   limit     at most so many rows; 1,000 by default
//
// Result: { title, rows: [{ [column]: text }] }

import { workflow } from "libretto";

const input = {
  type: "object",
  properties: {
    url: { type: "string", format: "uri" },
    selector: { type: "string", default: "table" },
    limit: { type: "integer", minimum: 1, maximum: 10_000, default: 1_000 },
  },
  required: ["url"],
};

export const tableScrape = workflow(
  "table-scrape",
  { input },
  async ({ page }, { url, selector = "table", limit = 1_000 }) => {
    await page.goto(url);
    const table = page.locator(selector).first();
    await table.waitFor();

    // One call into the page for the whole table: a call for each cell would take minutes where there are many.
    const rows = await table.evaluate((table, limit) => {
      const texts = (row) => [...row.cells].map((cell) => cell.innerText.trim());
      const [head, ...body] = [...table.rows];
      const columns = head ? texts(head) : [];
      return body.slice(0, limit).map((row) =>
        Object.fromEntries(texts(row).map((text, i) => [columns[i] || `column ${i + 1}`, text])),
      );
    }, limit);

    if (rows.length === 0) console.warn(`${selector} at ${url} has no rows`);
    return { title: await page.title(), rows };
  },
);
