// A real Chromium, and what the tests do with its pages.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { DEADLINE } from "./nodes.js";

const SCREENSHOTS = process.env.SCREENSHOTS ?? new URL("../../../../target/ui", import.meta.url).pathname;

export function launch() {
  // Root has no sandbox of its own.
  const args = process.getuid() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
}

/**
 * Runs `look(page)` on a page of its own, at a place of `/ui` on the node. Fails if the page reports an error, or a
 * breach of its Content-Security-Policy, unless `expected` matches it.
 */
export async function withPage(browser, node, place, look, { expected = /^$/, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 700 }, reducedMotion: "reduce", ...options });
  try {
    context.setDefaultTimeout(DEADLINE);
    const faults = [];
    context.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) {
        faults.push(message.text());
      }
    });
    context.on("weberror", (error) => faults.push(error.error().stack));
    const page = await context.newPage();
    await page.goto(`${node.address}/ui${place}`);
    await look(page);
    assert.deepEqual(faults.filter((fault) => !expected.test(fault)), [], "the page has reported errors");
  } finally {
    await context.close();
  }
}

/** Keeps a picture of the page below the target directory. */
export async function keepScreenshot(page, name) {
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}

/** The row of a table that has this text in one of its cells. */
export function row(page, text) {
  return page.getByRole("row").filter({ has: page.getByRole("gridcell", { name: text, exact: true }) });
}
