// A text as a row of characters, each coloured by how surprised the model was; one is chosen, by
// arrow keys or a click, and another looked at while the pointer is over it.

import { make, visible, walked } from "./elements.mjs";
import { _ } from "./words.mjs";

const MOST_NATS = 5; // from here on a character has the full colour

export class Letters {
  /**
   * @param {{chosen: number?, over: number?}} pointer where the reader is, which several rows of
   *   the same text share; chosen: the last character, until the reader chooses
   * @param {() => void} onPoint another character is pointed at: `place`
   */
  constructor(pointer, onPoint) {
    Object.assign(this, { pointer, onPoint });
    this.letters = [];
    this.element = make("div", {
      className: "inside-letters",
      tabIndex: 0,
      role: "group",
      "aria-label": _`The text; arrow keys choose a character`,
    });
    this.element.addEventListener("pointerover", ({ target }) => this.look(target.dataset.place));
    this.element.addEventListener("pointerleave", () => this.look());
    this.element.addEventListener("click", ({ target }) => this.choose(target.dataset.place));
    this.element.addEventListener("keydown", (event) => this.walk(event));
  }

  /** The place that all else is about; the last is the one after the text. */
  get place() {
    return this.pointer.over ?? this.pointer.chosen;
  }

  /** @param {string[]} characters @param {number[]} surprises nats of all but the first */
  show(characters, surprises) {
    this.letters = characters.map((character, place) => {
      const shown = character === "\n" ? "⏎\n" : character;
      const letter = make("span", {}, shown);
      const share = Math.min(1, (surprises[place - 1] ?? 0) / MOST_NATS);
      letter.style.setProperty("--surprise", share.toFixed(3));
      return letter;
    });
    this.letters.push(make("span", { className: "inside-end" }, "…"));
    this.letters.slice(1).forEach((letter, i) => (letter.dataset.place = i + 1));
    this.element.replaceChildren(...this.letters);
    this.pointer.over = null;
    const chosen = this.pointer.chosen ?? characters.length - 1;
    this.pointer.chosen = Math.min(chosen, characters.length);
  }

  /** @param {string} [place] while the pointer is over it */
  look(place) {
    this.pointer.over = place === undefined ? null : Number(place);
    this.onPoint();
  }

  /** @param {string} [place] from now on */
  choose(place) {
    if (place === undefined) return;
    this.pointer.chosen = Number(place);
    this.onPoint();
  }

  walk(event) {
    const to = walked(event, this.place, 1, this.letters.length - 1);
    if (to === undefined) return;
    this.pointer.over = null;
    this.choose(to);
    this.letters[to].scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** Show where the reader is. */
  mark() {
    this.marked?.classList.remove("inside-at");
    this.marked = this.letters[this.place];
    this.marked?.classList.add("inside-at");
  }

  /** Underline what a head looks at. @param {ArrayLike<number>} weights of the first characters */
  weigh(weights) {
    if (!weights.length && !this.weighed) return; // 256 styles that would not change
    this.weighed = weights.length > 0;
    this.letters.forEach((letter, i) => {
      letter.style.setProperty("--weight", Math.sqrt(weights[i] ?? 0).toFixed(3));
    });
  }
}

/** The end of a text in quotation marks, as it is read aloud. @param {string[]} characters */
export function quoted(characters) {
  return `“${characters.map(visible).join("")}”`;
}
