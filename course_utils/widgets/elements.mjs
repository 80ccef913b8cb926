// What the widget's other parts make their elements and words of.

/**
 * An element with properties, attributes (those with a dash, or role) and children; text only ever
 * as text.
 * @param {string} tag @param {object} properties @param {...(Node|string)} children
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** A character as it is shown where it stands alone. */
export function visible(character) {
  return { " ": "␣", "\n": "⏎", "\t": "⇥" }[character] ?? character;
}

export function percent(p) {
  return p > 0 && p < 0.0005 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`;
}
