// Logs in to a portal and reads the account's open items.
//
// Params:     portal_url   the page with the login form
//             username     who logs in
// Credential: portal_password, stored with credentials/create or credentials/upsert. It is declared below and comes as
//             input.credentials.portal_password; it never stands in params, where it would be shown again.
// Result:     { items: [{ number, due, amount }], total }

import { workflow } from "libretto";

export const portalLogin = workflow(
  "portal-login",
  {
    credentialNames: ["portal_password"],
    input: {
      type: "object",
      properties: {
        portal_url: { type: "string", minLength: 1 },
        username: { type: "string", minLength: 1 },
      },
      required: ["portal_url", "username"],
    },
  },
  async ({ page }, { portal_url, username, credentials }) => {
    console.log(`opening ${portal_url}`);
    await page.goto(portal_url);
    await page.getByLabel("User name").fill(username);
    await page.getByLabel("Password").fill(credentials.portal_password);
    await page.getByRole("button", { name: "Log in" }).click();

    // Either the table or the portal's own words about why there is none: whichever comes first.
    const table = page.locator("#open-items");
    const refusal = page.getByRole("alert");
    await table.or(refusal).waitFor();
    if (await refusal.isVisible()) {
      throw new Error(`the portal refused the login: ${await refusal.innerText()}`);
    }

    const items = await table.locator("tbody tr").evaluateAll((rows) =>
      rows.map((row) => {
        const [number, due, amount] = [...row.cells].map((cell) => cell.textContent.trim());
        return { number, due, amount };
      }),
    );
    const cents = items.reduce((sum, item) => sum + Math.round(Number(item.amount) * 100), 0);
    console.log(`read ${items.length} open items`);
    return { items, total: (cents / 100).toFixed(2) };
  },
);
