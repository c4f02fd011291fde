// The example for browsers in API.md, as it stands there.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { launch } from "./browser.js";
import { RunningNode, until } from "./nodes.js";

const DOCUMENT = process.env.API_DOCUMENT ?? new URL("../../API.md", import.meta.url).pathname;

test("the example for browsers registers, watches and reacts", async () => {
  const example = /^```js\n([\s\S]*?)^```$/m.exec(readFileSync(DOCUMENT, "utf8"))?.[1];
  assert.ok(example, `${DOCUMENT} has no example in js`);
  const node = await RunningNode.start("example");
  const browser = await launch();
  try {
    const page = await browser.newPage();
    const logged = [];
    page.on("console", (message) => logged.push(message.text()));
    await page.goto(`${node.address}/ui/`);
    // It goes on for as long as its page is there.
    page.evaluate(`(async () => { ${example} })()`).catch((error) => logged.push(error.message));
    const written = () => logged.some((line) => line.startsWith("put") && line.includes("web-3"));
    await until("the event of the own write", written);
    await node.delete("services", "web-3");
    await until("the event of the delete", () => logged.some((line) => line.startsWith("delete")));
  } finally {
    await browser.close();
    await node.kill();
  }
});
