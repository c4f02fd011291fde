// When work is done: long work in slices between which the page answers, repeated work while the page can be seen.

/** The longest piece of work, in milliseconds: a frame has 16. */
const SLICE = 8;

/** Lets the browser answer the reader, then goes on. */
export function nextTask() {
  return globalThis.scheduler?.yield ? scheduler.yield() : new Promise((resolve) => setTimeout(resolve));
}

/** Measures a slice of work: `over()` after a few milliseconds. */
export function slice() {
  const end = performance.now() + SLICE;
  return { over: () => performance.now() > end };
}

/** Resolves after that many milliseconds; rejects as soon as `signal` is aborted. */
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", abort);
      resolve();
    }, milliseconds);
    function abort() {
      clearTimeout(timer);
      reject(signal.reason);
    }
    signal.throwIfAborted();
    signal.addEventListener("abort", abort, { once: true });
  });
}

/** Resolves when the page can be seen; rejects as soon as `signal` is aborted. */
export function seen(signal) {
  return new Promise((resolve, reject) => {
    const ended = new AbortController();
    function look() {
      if (signal.aborted) {
        reject(signal.reason);
      } else if (!document.hidden) {
        resolve();
      } else {
        return;
      }
      ended.abort();
    }
    signal.addEventListener("abort", look, { signal: ended.signal });
    document.addEventListener("visibilitychange", look, { signal: ended.signal });
    look();
  });
}

/**
 * Repeats an asynchronous task every so many milliseconds while the page can be seen, until `signal` is aborted. What
 * takes long is repeated seldom, so that pages do not keep a large node busy.
 */
export async function repeat(task, interval, signal) {
  try {
    for (;;) {
      await seen(signal);
      const begin = performance.now();
      await task();
      await pause(Math.max(interval, 10 * (performance.now() - begin)), signal);
    }
  } catch (error) {
    if (!signal.aborted) {
      throw error;
    }
  }
}

/** Calls `work` once in the next frame, however often it is requested before. */
export class FrameTask {
  #work;
  #frame = 0;

  constructor(work) {
    this.#work = work;
  }

  request() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#work();
    });
  }

  cancel() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
  }
}
