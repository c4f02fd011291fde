// The page in a real Chromium, against three real nodes.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { keepScreenshot, launch, row, withPage } from "./browser.js";
import { Link } from "./link.js";
import { cluster, RunningNode, until } from "./nodes.js";

const READ = "read-0123456789abcdefghij";
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let browser;
let nodes = [];

before(async () => {
  [browser, nodes] = await Promise.all([launch(), cluster("host-1", "host-2", "host-3")]);
  await nodes[1].put("services", "web-1", "10.0.0.7:80");
  await nodes[1].put("services", "database", '{"host":"10.0.0.9","port":5432}');
  await nodes[2].put("services", "cache", Buffer.from([0xff, 0x00, 0x01]));
  await until("that all entries have arrived", async () => {
    const [table] = (await nodes[0].get("networks/blue/tables")).tables;
    return table.entries === 3;
  });
});

after(async () => {
  await browser?.close();
  await Promise.all(nodes.map((node) => node.kill()));
});

test("members are shown with state and round-trip time", async () => {
  await withPage(browser, nodes[0], "", async (page) => {
    await page.getByText("3 members: 3 alive").waitFor();
    for (const name of ["host-2", "host-3"]) {
      const cells = row(page, name).getByRole("gridcell");
      await cells.filter({ hasText: /^[0-9.]+ ms$/ }).waitFor();
      assert.equal(await cells.first().textContent(), "alive");
    }
    assert.equal(await row(page, "host-1 (this node)").count(), 1);
  });
});

test("a write on another node appears without a reload, and so does its delete", async () => {
  await withPage(browser, nodes[0], "#/networks/blue/tables/services", async (page) => {
    await page.getByText("Live", { exact: true }).waitFor();
    await page.evaluate(() => (globalThis.loadedOnce = true));
    await nodes[2].put("services", "new", "first");
    await row(page, "first").waitFor();
    await nodes[1].put("services", "new", "second");
    await row(page, "second").waitFor();
    const changes = page.getByRole("list", { name: "Recent changes, the latest first" });
    await changes.getByText("first → second").waitFor();
    await keepScreenshot(page, "table-changed");
    await nodes[1].delete("services", "new");
    await row(page, "second").waitFor({ state: "detached" });
    await changes.getByText("deleted", { exact: true }).waitFor();
    // What screen readers announce.
    await page.locator("[aria-live=polite]").filter({ hasText: "new deleted" }).waitFor({ state: "attached" });
    assert.ok(await page.evaluate(() => globalThis.loadedOnce));
  });
});

test("a watch that was cut goes on where it stopped", async () => {
  await nodes[1].put("cut", "before", "seen");
  const link = await Link.to(nodes[0]);
  const look = async (page) => {
    const calls = [];
    page.on("request", (request) => calls.push(new URL(request.url())));
    await row(page, "seen").waitFor();
    await page.getByText("Live", { exact: true }).waitFor();
    calls.length = 0;
    link.cut();
    await page.getByText(/^Not up to date: /).waitFor();
    await nodes[1].put("cut", "meanwhile", "missed");
    await nodes[1].delete("cut", "before");
    link.mend();
    await row(page, "missed").waitFor();
    await row(page, "seen").waitFor({ state: "detached" });
    await page.getByText("Live", { exact: true }).waitFor();
    const others = calls.filter((url) => url.pathname !== "/v1/watch" || !url.searchParams.has("cursor"));
    assert.deepEqual(others.map(String), [], "nothing is read anew");
  };
  try {
    // The browser reports connections that break.
    await withPage(browser, link, "#/networks/blue/tables/cut", look, { expected: /ERR_/ });
  } finally {
    link.close();
  }
});

test("an entry is shown in detail, and follows its changes", async () => {
  await nodes[1].put("details", "followed", '{"port":1}');
  await withPage(browser, nodes[0], "#/networks/blue/tables/details", async (page) => {
    await row(page, "followed").click();
    const panel = page.getByRole("complementary", { name: "followed" });
    await panel.getByText('"port": 1').waitFor();
    await panel.getByRole("link", { name: "host-2" }).waitFor();
    await nodes[2].put("details", "followed", '{"port":2}');
    await panel.getByText('"port": 2').waitFor();
    await panel.getByRole("link", { name: "host-3" }).waitFor();
    await nodes[2].delete("details", "followed");
    await panel.getByText("This entry is not in the table").waitFor();
  });
});

test("an entry is explained by every member", async () => {
  await nodes[1].put("explained", "entry", "first");
  await nodes[2].put("explained", "entry", "second");
  const isEverywhere = async () => {
    const { members } = await nodes[0].get("networks/blue/tables/explained/entries/entry/explain");
    return members.every((row) => row.entry?.write?.owner === "host-3");
  };
  await until("that all members have the entry", isEverywhere);
  await withPage(browser, nodes[0], "#/networks/blue/tables/explained/entries/entry", async (page) => {
    const explanation = page.getByRole("region", { name: "At each member" });
    const own = explanation.getByRole("row", { name: /^host-1 \(this node\)/ });
    await own.getByText(/^By (gossip|pull|push|sync) from host-[23], /).waitFor();
    await explanation.getByText(/^Written by host-3 on /).waitFor();
    await explanation.getByRole("row", { name: /^host-3 visible/ }).getByText(/^Written here/).waitFor();
    await explanation.getByRole("row", { name: /^host-2 visible/ }).waitFor();
    await keepScreenshot(page, "entry-explained");
    await nodes[2].delete("explained", "entry");
    await page.getByText("This entry is not in the table").waitFor();
    await until("that the delete is explained", async () => {
      await explanation.getByRole("button", { name: "Ask again" }).click();
      await own.getByText("deleted").waitFor({ timeout: 2_000 });
      return own.getByText(/^Its tombstone is kept for another /).isVisible();
    });
  });
});

test("members that agree are shown so, and in red when they differ, with the entries", async () => {
  const first = await RunningNode.start("takes-all");
  let strict;
  try {
    const seed = (await first.get("node")).address;
    strict = await RunningNode.start("takes-short", { seed, more: ["--max-value-bytes", "16"] });
    await withPage(browser, first, "#/networks/blue", async (page) => {
      const agreement = page.getByRole("region", { name: "Agreement" });
      await agreement.getByText("2 members agree").waitFor();
      await first.put("t", "long", "a value of more than sixteen bytes");
      await agreement.getByText(/^Members differ/).waitFor();
      await agreement.getByRole("row", { name: /takes-short something else/ }).waitFor();
      await agreement.getByRole("link", { name: "t / long" }).waitFor();
      await keepScreenshot(page, "disagreement");
      await agreement.getByRole("link", { name: "t / long" }).click();
      const refusal = page.getByRole("row", { name: /^takes-short/ });
      await refusal.getByText(/it is longer than a limit of the member/).waitFor();
    });
  } finally {
    await Promise.all([first.kill(), strict?.kill()]);
  }
});

test("keys and values are shown as they are, whatever they look like", async () => {
  const key = "<img src=x onerror=alert(1)>/%2e?#ż\u{1f600}";
  await nodes[1].put("odd", key, "<script>alert(2)</script>");
  await withPage(browser, nodes[0], "#/networks/blue/tables/odd", async (page) => {
    await row(page, key).click();
    const panel = page.getByRole("complementary", { name: key });
    await panel.getByText("<script>alert(2)</script>").waitFor();
    await page.reload();
    await panel.getByText("<script>alert(2)</script>").waitFor();
  });
});

test("100,000 entries are searched and scrolled without a stall", async (context) => {
  const lines = Array.from({ length: 100_000 }, (_, at) => {
    const key = `host-${at % 100}/service-${String(at).padStart(6, "0")}`;
    return JSON.stringify({ key, value: `10.${at >> 16}.${(at >> 8) % 256}.${at % 256}:80` });
  });
  await nodes[0].call("POST", "networks/blue/tables/many/entries", { body: lines.join("\n") });
  await withPage(browser, nodes[0], "", async (page) => {
    await page.evaluate(() => {
      globalThis.longTasks = [];
      new PerformanceObserver((list) => longTasks.push(...list.getEntries().map((entry) => entry.duration))).observe({
        type: "longtask",
      });
    });
    const [opened, measured] = [Date.now(), {}];
    await page.evaluate(() => (location.hash = "#/networks/blue/tables/many"));
    await row(page, "host-0/service-000000").waitFor();
    measured.first = Date.now() - opened;
    await page.getByText("100,000 entries", { exact: true }).waitFor();
    measured.all = Date.now() - opened;
    const filter = page.getByRole("searchbox", { name: "Filter" });
    let begin = Date.now();
    await filter.fill("SERVICE-098765");
    await row(page, "host-65/service-098765").waitFor();
    await page.getByText("100,000 entries; 1 contain the text").waitFor();
    measured.filter = Date.now() - begin;
    await filter.fill("");
    await page.getByText("100,000 entries", { exact: true }).waitFor();
    await page.getByRole("grid").focus();
    await page.keyboard.press("End");
    await row(page, "host-99/service-099999").waitFor();
    begin = Date.now();
    await page.getByRole("searchbox", { name: "Key prefix" }).fill("host-42/");
    await page.getByText("1,000 entries", { exact: true }).waitFor();
    measured.prefix = Date.now() - begin;
    const longTasks = await page.evaluate(() => longTasks);
    const longest = Math.round(Math.max(0, ...longTasks));
    context.diagnostic(
      `first rows ${measured.first} ms, all ${measured.all} ms, filter ${measured.filter} ms, prefix ${measured.prefix} ms; ` +
        `${longTasks.length} tasks of more than 50 ms, the longest ${longest} ms`,
    );
  });
});

test("the page asks for a token where the node does, and forgets it on demand", async () => {
  const node = await RunningNode.start("guarded", { tokens: `read ${READ}\n` });
  try {
    // The browser reports each answer with status 401.
    const expected = /the server responded with a status of 401/;
    await withPage(
      browser,
      node,
      "",
      async (page) => {
        const input = page.getByLabel("Token", { exact: true });
        await page.getByText("to those who have a token for reading").waitFor();
        await keepScreenshot(page, "token");
        await input.fill("not-0123456789abcdefghij");
        await page.keyboard.press("Enter");
        await page.getByText("It does not know the token").waitFor();
        await input.fill(READ);
        await page.keyboard.press("Enter");
        await page.getByText("1 member: 1 alive").waitFor();
        assert.ok(!page.url().includes(READ));
        assert.deepEqual(await page.evaluate(() => [Object.values(localStorage), document.cookie]), [[], ""]);
        await page.reload();
        await page.getByText("1 member: 1 alive").waitFor();
        await page.getByRole("button", { name: "Forget token" }).click();
        await page.getByText("to those who have a token for reading").waitFor();
        assert.equal(await page.evaluate(() => sessionStorage.length), 0);
        await page.keyboard.press("Escape");
        await page.getByRole("button", { name: "Enter token" }).click();
        await input.fill(READ);
        await page.keyboard.press("Enter");
        await page.getByText("1 member: 1 alive").waitFor();
      },
      { expected },
    );
  } finally {
    await node.kill();
  }
});

test("everything can be reached by keyboard alone", async () => {
  await withPage(browser, nodes[0], "", async (page) => {
    const focused = (name) =>
      until(`the focus on ${name}`, () =>
        page.evaluate((name) => [document.activeElement.ariaLabel, document.activeElement.textContent].includes(name), name),
      );
    await page.getByText("3 members: 3 alive").waitFor();
    await page.keyboard.press("/");
    await focused("Search members");
    await page.keyboard.type("host-2");
    await page.getByText("1 match the search").waitFor();
    await page.keyboard.press("Tab");
    await focused("Members");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.getByRole("complementary", { name: "Member host-2" }).waitFor();
    await focused("Member host-2");
    await page.keyboard.press("Escape");
    await page.getByRole("complementary").waitFor({ state: "hidden" });
    await focused("Members");
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Help" }).waitFor();
    await focused("Help");
    await page.keyboard.press("Escape");
    await page.keyboard.press("n");
    await row(page, "blue").waitFor();
    await focused("Networks");
    await page.keyboard.press("Enter");
    await row(page, "services").waitFor();
    await focused("Tables");
    await page.keyboard.press("End");
    await page.keyboard.press("Enter");
    await row(page, "web-1").waitFor();
    await page.keyboard.press("Escape");
    await row(page, "services").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("heading", { name: "Networks" }).waitFor();
  });
});

for (const colorScheme of ["light", "dark"]) {
  test(`every view is legible and accessible in ${colorScheme}`, async () => {
    const views = {
      members: ["#/members", "3 members"],
      member: ["#/members/host-2", "Answered a probe"],
      networks: ["#/networks", "1 network"],
      network: ["#/networks/blue", "3 members agree"],
      table: ["#/networks/blue/tables/services", "web-1"],
      entry: ["#/networks/blue/tables/services/entries/database", '"port": 5432'],
      nothing: ["#/nothing/here", "There is nothing here"],
    };
    for (const [name, [place, text]] of Object.entries(views)) {
      await withPage(
        browser,
        nodes[0],
        place,
        async (page) => {
          await page.getByText(text).first().waitFor();
          const background = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
          assert.equal(background, colorScheme === "light" ? "rgb(251, 251, 250)" : "rgb(20, 23, 26)");
          await keepScreenshot(page, `${name}-${colorScheme}`);
          await page.evaluate(AXE);
          const { violations } = await page.evaluate(() => axe.run());
          const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html)}`);
          assert.deepEqual(found, [], name);
        },
        { colorScheme },
      );
    }
  });
}

test("the reader's choice of a theme goes before that of the system, and is kept", async () => {
  await withPage(
    browser,
    nodes[0],
    "",
    async (page) => {
      const background = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
      await page.getByLabel("Theme").selectOption("dark");
      assert.equal(await background(), "rgb(20, 23, 26)");
      await page.reload();
      assert.equal(await background(), "rgb(20, 23, 26)");
      await page.getByLabel("Theme").selectOption("system");
      assert.equal(await background(), "rgb(251, 251, 250)");
    },
    { colorScheme: "light" },
  );
});

test("a killed node turns, and its entries are marked as hidden", async () => {
  await nodes[2].put("mortal", "entry", "of the killed node");
  await withPage(browser, nodes[0], "#/members", async (page) => {
    await page.getByText("3 members: 3 alive").waitFor();
    const table = await page.context().newPage();
    await table.goto(`${nodes[0].address}/ui#/networks/blue/tables/mortal`);
    await row(table, "of the killed node").waitFor();
    await nodes[2].kill();
    await row(page, "host-3").getByRole("gridcell", { name: "failed" }).waitFor();
    await page.getByText("3 members: 2 alive, 1 failed").waitFor();
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await keepScreenshot(page, `members-failed-${colorScheme}`);
    }
    await row(table, "of the killed node").getByRole("gridcell", { name: "hidden: owner failed" }).waitFor();
    await keepScreenshot(table, "hidden");
    await row(page, "host-3").click();
    const explanation = page.getByRole("region", { name: "What each member knows of it" });
    await explanation.getByText(/^Accused by host-[12] /).first().waitFor();
    await explanation.getByRole("row", { name: /^host-3 no answer/ }).waitFor();
  });
});

test("a page whose node is gone says so, and from when its content is", async () => {
  await withPage(
    browser,
    nodes[1],
    "#/networks/blue/tables/services",
    async (page) => {
      await page.getByText("Live", { exact: true }).waitFor();
      await nodes[1].kill();
      await page.getByText(/^Not up to date: .* This is from \d\d:\d\d:\d\d\.$/).waitFor();
      await row(page, "web-1").waitFor();
    },
    { expected: /Failed to load resource|ERR_/ },
  );
});
