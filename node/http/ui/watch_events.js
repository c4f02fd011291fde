// The lines of `/v1/watch`, as the page uses them. Their names stand in this file only.

/** Reasons of deletes, in words. */
const REASONS = {
  deleted: "deleted",
  failed: "owner failed",
  left_network: "owner left the network",
  left_cluster: "owner left the cluster",
  node_left_network: "this node left the network",
};

/**
 * A line as an event: its `kind` is `put`, `delete`, `hide`, `synchronised`, `reset` or `closing`. Null for others, which
 * a later version of the node may send.
 */
export function eventOf(line) {
  switch (line.event) {
    case "put":
      return { ...line, kind: "put" };
    case "delete":
      // The entry is still there, and is shown again if its owner returns.
      if (line.reason === "failed") {
        return { ...line, kind: "hide", hidden: "owner_failed", reason: REASONS.failed };
      }
      return { ...line, kind: "delete", reason: REASONS[line.reason] ?? line.reason };
    case "synchronised":
    case "reset":
    case "closing":
      return { ...line, kind: line.event };
    default:
      return null;
  }
}
