// What widgets say, in the reader's language: Python puts another than English here.

const SAID = {};

/** The text, looked up with its values as {0}, {1}, …, for the tag of a template. */
export function _(strings, ...values) {
  const text = strings.reduce((whole, part, i) => `${whole}{${i - 1}}${part}`);
  return (SAID[text] ?? text).replace(/\{(\d)\}/g, (_, i) => values[i]);
}
