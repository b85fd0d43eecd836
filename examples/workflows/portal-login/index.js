// Logs in to a customer portal and reads the open items of the account.
//
// Params:
//   portal_url  the address of the login page
//   user        who logs in
// Credential:
//   portal_password  stored with `credentials/upsert` under this name; it reaches the run as
//                    input.credentials.portal_password and is in no schedule, answer or log
//
// Result: { account, items: [{ number, due, amount }], total }
//
// Schedule it for the first of the month, say: cron_expr "0 7 1 * *", timezone "Europe/Berlin".

import { workflow } from "libretto";

const input = {
  type: "object",
  properties: {
    portal_url: { type: "string", format: "uri" },
    user: { type: "string", minLength: 1 },
  },
  required: ["portal_url", "user"],
};

export const portalLogin = workflow(
  "portal-login",
  { input, credentialNames: ["portal_password"] },
  async ({ page }, { portal_url, user, credentials }) => {
    await page.goto(portal_url);

    // Labels and roles are what people see: they outlive a redesign that changes every class name.
    await page.getByLabel("User").fill(user);
    await page.getByLabel("Password").fill(credentials.portal_password);
    await page.getByRole("button", { name: "Log in" }).click();

    // Either the items or a message appears; waiting for both tells a wrong password from a slow portal.
    const items = page.getByRole("table", { name: "Open items" });
    const refused = page.getByRole("alert");
    await items.or(refused).first().waitFor();
    if (await refused.isVisible()) {
      throw new Error(`the portal refused the login: ${await refused.innerText()}`);
    }

    const rows = await items.locator("tbody tr").evaluateAll((rows) =>
      rows.map((row) => {
        const [number, due, amount] = [...row.cells].map((cell) => cell.innerText.trim());
        return { number, due, amount: Number(amount) };
      }),
    );
    console.log(`${rows.length} open items`);
    return {
      account: await page.getByRole("heading", { level: 1 }).innerText(),
      items: rows,
      total: rows.reduce((sum, row) => sum + row.amount, 0),
    };
  },
);
