// Real nodes for the tests: processes of the binary on ports that the system chose.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const BINARY = process.env.NETWORKDB ?? new URL("../../../../target/debug/networkdb", import.meta.url).pathname;

/** The longest wait for what must happen, in milliseconds: this machine may be busy. */
export const DEADLINE = 60_000;

/** Repeats `attempt` until it returns something true; an error counts as false until the deadline. */
export async function until(what, attempt) {
  const end = Date.now() + DEADLINE;
  for (let failure = "it was false"; ; ) {
    try {
      const found = await attempt();
      if (found) {
        return found;
      }
    } catch (error) {
      failure = error.message;
    }
    if (Date.now() > end) {
      throw new Error(`${what} did not happen: ${failure}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export class RunningNode {
  /** The address of its HTTP server, `http://HOST:PORT`. */
  address;
  #process;
  #folder;

  /** Starts a node that joins through `seed`, with a file of HTTP tokens if `tokens` is one, and with more options. */
  static async start(name, { seed, tokens, more = [] } = {}) {
    const node = new RunningNode();
    node.#folder = mkdtempSync(join(tmpdir(), "networkdb-ui-"));
    const options = ["run", "--name", name, "--bind", "127.0.0.1:0", "--http", "127.0.0.1:0", "--network", "blue"];
    options.push("--admin-socket", "off", ...more);
    if (seed !== undefined) {
      options.push("--seed", seed);
    }
    if (tokens !== undefined) {
      const file = join(node.#folder, "tokens");
      writeFileSync(file, tokens, { mode: 0o600 });
      options.push("--http-token-file", file);
    }
    // Settings of the environment would be those of the reader's own node.
    const environment = Object.entries(process.env).filter(([name]) => !name.startsWith("NETWORKDB"));
    node.#process = spawn(BINARY, options, { stdio: ["ignore", "pipe", "pipe"], env: Object.fromEntries(environment) });
    let log = "";
    for (const stream of [node.#process.stdout, node.#process.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => (log += text));
    }
    node.#process.on("error", (error) => (log += error));
    node.address = await until(`the start of ${name}`, () => {
      if (node.#process.exitCode !== null || node.#process.pid === undefined) {
        throw new Error(`it has ended:\n${log}`);
      }
      return /diagnostics: (http:\/\/[^/]*)\/help/.exec(log)?.[1];
    });
    return node;
  }

  /** A call of /v1; the body of the answer as text. */
  async call(method, path, { body, token } = {}) {
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const response = await fetch(`${this.address}/v1/${path}`, { method, body, headers });
    const text = await response.text();
    if (!response.ok) {
      throw new Error(`${method} ${path}: ${response.status} ${text}`);
    }
    return text;
  }

  async get(path, token) {
    return JSON.parse(await this.call("GET", path, { token }));
  }

  /** Writes an entry of the network `blue`. */
  put(table, key, value) {
    return this.call("PUT", `networks/blue/tables/${table}/entries/${encodeURIComponent(key)}`, { body: value });
  }

  delete(table, key) {
    return this.call("DELETE", `networks/blue/tables/${table}/entries/${encodeURIComponent(key)}`);
  }

  /** Ends the process without a word to the others. */
  async kill() {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const ended = new Promise((resolve) => this.#process.once("exit", resolve));
      this.#process.kill("SIGKILL");
      await ended;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Nodes of one cluster, on the network `blue`. */
export async function cluster(...names) {
  const first = await RunningNode.start(names[0]);
  const seed = (await first.get("node")).address;
  const others = await Promise.all(names.slice(1).map((name) => RunningNode.start(name, { seed })));
  const nodes = [first, ...others];
  for (const node of nodes) {
    await until("that all members are alive", async () => {
      const { members } = await node.get("members");
      return members.length === names.length && members.every((member) => member.state === "alive");
    });
  }
  return nodes;
}
