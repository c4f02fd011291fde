// Reads a body with a JSON value on each line, as it arrives.

import { nextTask, slice } from "./scheduling.js";

/** The most characters of a line: the largest values that a node takes are a fraction of it. */
const MAX_LINE = 64 << 20;

/**
 * Yields the values in batches. A batch is what has arrived, or what could be read in one slice of time; it is empty if
 * only a part of a line, or an empty line, has arrived. Ends, or throws, as the body does.
 */
export async function* jsonLines(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  // The part of `rest` in which there is no line end.
  let searched = 0;
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) {
        return;
      }
      rest += decoder.decode(value, { stream: true });
      let batch = [];
      let begin = 0;
      let time = slice();
      for (let end = rest.indexOf("\n", searched); end >= 0; end = rest.indexOf("\n", begin)) {
        if (end > begin) {
          batch.push(JSON.parse(rest.slice(begin, end)));
        }
        begin = end + 1;
        if (time.over()) {
          yield batch;
          await nextTask();
          batch = [];
          time = slice();
        }
      }
      rest = rest.slice(begin);
      searched = rest.length;
      if (searched > MAX_LINE) {
        throw new Error("a line of the answer is too long");
      }
      yield batch;
    }
  } finally {
    // Without this the node would go on sending to a reader that has gone.
    reader.cancel().catch(() => {});
  }
}
