// What the widget's other parts make their elements and words of.

import { encode } from "./sampler.mjs";
import { _ } from "./words.mjs";

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

/** @param {string} name what stands on it @param {() => void} onclick */
export function button(name, onclick, properties = {}) {
  return make("button", { type: "button", onclick, ...properties }, name);
}

/**
 * Let files be dropped anywhere on an element, as if they had been chosen in its input.
 * @param {Element} el @param {HTMLInputElement} input tells of them by its change, while it is on
 */
export function takeDropped(el, input) {
  const dragged = (event) => {
    const { dataTransfer, relatedTarget, type } = event;
    const leaves = type === "dragleave" && !el.contains(relatedTarget);
    if (type === "drop" || leaves) el.classList.remove("sampler-dragged");
    if (type === "dragleave" || !dataTransfer?.types.includes("Files")) return;
    event.preventDefault(); // or the browser shows the file itself
    if (input.disabled) return;
    if (type === "dragover") el.classList.add("sampler-dragged");
    if (type !== "drop") return;
    input.files = dataTransfer.files; // so that its name is shown
    input.dispatchEvent(new Event("change"));
  };
  for (const name of ["dragover", "dragleave", "drop"]) el.addEventListener(name, dragged);
}

/** Whether the reader wants few things to move. */
export function calm() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** Where a key leads among the places from first to last; undefined: nowhere. */
export function walked(event, at, first, last) {
  const ways = {
    ArrowLeft: Math.max(first, at - 1),
    ArrowRight: Math.min(last, at + 1),
    Home: first,
    End: last,
  };
  const to = first <= last ? ways[event.key] : undefined;
  if (to !== undefined) event.preventDefault();
  return to;
}

/** A character as it is shown where it stands alone. */
export function visible(character) {
  return { " ": "␣", "\n": "⏎", "\t": "⇥" }[character] ?? character;
}

/** Which characters of a text a model does not know, as one sentence; else "". */
export function unknownTo(name, alphabet, text) {
  const { unknown } = encode(alphabet, text);
  if (!unknown.length) return "";
  const named = unknown.slice(0, 8).map((character) => `“${visible(character)}”`);
  const list = named.join(", ") + (unknown.length > 8 ? " …" : "");
  return _`${name} does not know ${list}: its alphabet has ${alphabet.length} characters.`;
}

export function percent(p) {
  return p > 0 && p < 0.0005 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`;
}
