// The lines of `/v1/watch`, as the page uses them. Their names stand in this file only.

/** Reasons of deletes after which the entry is still there, hidden until its owner returns. */
const HIDING = { failed: "owner_failed", "owner failed": "owner_failed" };

const REASONS = {
  deleted: "deleted",
  expired: "expired",
  failed: "owner failed",
  left_network: "owner left the network",
  left_cluster: "owner left the cluster",
};

/**
 * A line as an event: its `kind` is `put`, `delete`, `hide`, `synchronised`, `reset` or `closing`; others are null, as
 * a later version of the node may send more.
 */
export function eventOf(line) {
  switch (line.event) {
    case "put":
    case "create":
    case "update":
      return { kind: "put", ...line };
    case "delete": {
      const hidden = HIDING[line.reason];
      const reason = REASONS[line.reason] ?? line.reason ?? "deleted";
      return { ...line, kind: hidden ? "hide" : "delete", hidden, reason };
    }
    case "synchronised":
      return { kind: "synchronised" };
    case "reset":
    case "lagged":
      return { kind: "reset" };
    case "closing":
    case "closed":
      return { kind: "closing" };
    default:
      return null;
  }
}
