// Numbers and names as people read them. What an engine does not report is a dash, never 0.

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const MONEY = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const DASH = "–";

export const count = (value) => (value == null ? DASH : NUMBER.format(value));
export const compact = (value) => (value == null ? DASH : COMPACT.format(value));
export const money = (value) => (value == null ? DASH : MONEY.format(value));
export const percent = (value) => (value == null ? DASH : `${Math.round(100 * value)}%`);
export const score = (value) => (value == null ? DASH : value.toFixed(2));
export const plural = (n, word, words = `${word}s`) => `${count(n)} ${n === 1 ? word : words}`;

/** An interval in percent; not as ±, since near 0 and 1 it is lopsided. */
export const interval = (low, high) => `${Math.round(100 * low)}–${Math.round(100 * high)}`;

export function seconds(value) {
  if (value == null) return DASH;
  if (value < 60) return `${value.toFixed(1)} s`;
  return `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
}

/** `text` cut to `length` characters, never through the middle of one. */
export function shorten(text, length) {
  const characters = [...text];
  return characters.length > length ? `${characters.slice(0, length - 1).join("")}…` : text;
}
