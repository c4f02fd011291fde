// The order of keys on a node: that of their bytes in UTF-8.

/**
 * Compares two keys. Strings compare by UTF-16 units, in which characters beyond U+FFFF (two units from U+D800) come
 * before those from U+E000; in UTF-8 they come behind them.
 */
export function compareKeys(a, b) {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at += 1) {
    const [left, right] = [a.charCodeAt(at), b.charCodeAt(at)];
    if (left !== right) {
      return rank(left) - rank(right);
    }
  }
  return a.length - b.length;
}

function rank(unit) {
  return unit >= 0xd800 && unit < 0xe000 ? unit + 0x10000 : unit;
}
