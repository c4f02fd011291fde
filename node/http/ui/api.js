// Calls of `/v1`. A call that needs a token waits until the reader has given one, or has declined.

// Relative to this file, so that the page works behind a proxy that serves the node below another path.
const ROOT = new URL("../v1/", import.meta.url);

/** The longest wait for the head of an answer, in milliseconds. */
const ANSWER_TIMEOUT = 15_000;

/** Codes of problems that a token, or another one, solves. */
const TOKEN_PROBLEMS = new Set(["token_required", "unknown_token", "role_required"]);

/** An answer that is a problem document, or no answer at all: then `status` is 0. */
export class ApiError extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
  }

  /** Whether a token, or another one, solves it. */
  get wantsToken() {
    return TOKEN_PROBLEMS.has(this.code);
  }
}

/** The path of a call below /v1, from its parts. */
export function path(...parts) {
  // URLs have no form of these that a browser leaves as it is: even %2E%2E leads to the folder above.
  const dots = parts.find((part) => part === "." || part === "..");
  if (dots !== undefined) {
    throw new ApiError(0, "unaddressable", `a browser cannot ask for the name “${dots}”; use the command line`);
  }
  return parts.map(encodeURIComponent).join("/");
}

export class Api {
  #token;
  #askForToken;

  /** `token` keeps the token; `askForToken(problem)` resolves to whether the reader has given one. */
  constructor(token, askForToken) {
    this.#token = token;
    this.#askForToken = askForToken;
  }

  /** The JSON of an answer. */
  async get(path, parameters = {}, signal = undefined) {
    const response = await this.open(path, parameters, signal);
    return response.json();
  }

  /** A whole list, one part after the other. `name` is that of the list in the answer. */
  async list(path, name, signal) {
    const all = [];
    for (let parameters = { limit: 5000 }; parameters; ) {
      const response = await this.open(path, parameters, signal);
      all.push(...(await response.json())[name]);
      parameters = nextPart(response);
    }
    return all;
  }

  /** An answer with status 200, whose body is still to be read. Throws an `ApiError`. */
  async open(path, parameters = {}, signal = undefined) {
    for (;;) {
      const used = this.#token.get();
      try {
        return await this.#ask(path, parameters, used, signal);
      } catch (error) {
        if (!error.wantsToken) {
          throw error;
        }
        // Another call may have asked for the token meanwhile.
        const isNew = this.#token.get() !== used;
        if (!isNew && !(await this.#askForToken(error))) {
          throw error;
        }
        signal?.throwIfAborted();
      }
    }
  }

  async #ask(path, parameters, token, signal) {
    const url = new URL(path, ROOT);
    for (const [name, value] of Object.entries(parameters)) {
      if (value !== null && value !== undefined && value !== "") {
        url.searchParams.set(name, value);
      }
    }
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(), ANSWER_TIMEOUT);
    const headers = token === null ? {} : { authorization: `Bearer ${token}` };
    let response;
    try {
      // The rest of the body ends with `signal` alone: a watch lasts.
      const signals = AbortSignal.any(signal ? [signal, timeout.signal] : [timeout.signal]);
      response = await fetch(url, { headers, signal: signals, cache: "no-store", credentials: "omit" });
    } catch (error) {
      signal?.throwIfAborted();
      const detail = timeout.signal.aborted ? "the node does not answer" : "the node cannot be reached";
      throw new ApiError(0, "unreachable", detail);
    } finally {
      clearTimeout(timer);
    }
    if (response.ok) {
      return response;
    }
    throw await problemOf(response);
  }
}

/** The parameters of the next part of a list, or null at its end. */
export function nextPart(response) {
  const next = /<([^>]*)>;\s*rel="next"/.exec(response.headers.get("link") ?? "");
  return next && Object.fromEntries(new URL(next[1], ROOT).searchParams);
}

async function problemOf(response) {
  // A proxy before the node may answer with anything.
  const problem = await response.json().catch(() => ({}));
  const detail = problem.detail ?? `the answer has status ${response.status}`;
  return new ApiError(response.status, problem.code ?? "unknown", detail);
}
