// How numbers and times read.

const whole = new Intl.NumberFormat("en");

/** 1234567 as "1,234,567". */
export function count(number) {
  return whole.format(number);
}

/** A number with its noun: "1 entry", "2 entries". */
export function counted(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** A duration in seconds, in its largest unit or two: "0.4 s", "12 s", "3 min 20 s", "2 h 5 min", "4 d 3 h". */
export function duration(seconds) {
  if (seconds < 1) {
    return `${seconds.toFixed(1)} s`;
  }
  const rounded = Math.floor(seconds);
  const [minutes, hours, days] = [60, 3600, 86400].map((unit) => Math.floor(rounded / unit));
  if (days > 0) {
    return `${count(days)} d ${hours % 24} h`;
  }
  if (hours > 0) {
    return `${hours} h ${minutes % 60} min`;
  }
  return minutes > 0 ? `${minutes} min ${rounded % 60} s` : `${rounded} s`;
}

/** How long ago that was, without tenths: what is repeated every second should not flicker. */
export function ago(seconds) {
  return seconds < 1 ? "just now" : `${duration(seconds)} ago`;
}

/** A round-trip time in seconds: "0.21 ms", "14 ms". */
export function roundTrip(seconds) {
  const milliseconds = seconds * 1000;
  return `${milliseconds < 10 ? milliseconds.toFixed(2) : Math.round(milliseconds)} ms`;
}

/** A size: "812 B", "1.5 KiB". */
export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(number, 1)) / 10));
  const scaled = number / 1024 ** power;
  return `${power === 0 || Number.isInteger(scaled) ? scaled : scaled.toFixed(1)} ${units[power]}`;
}

/** The time of day of a clock in milliseconds: "03:07:21". */
export function clock(milliseconds) {
  return new Date(milliseconds).toLocaleTimeString("en-GB");
}
