// What the model would guess if it stopped after a layer: the logit lens, a row a layer.

import { make, percent, visible } from "./elements.mjs";
import { _ } from "./words.mjs";

const GUESSES = 5; // of the likeliest characters

export class Lens {
  constructor() {
    this.stages = []; // a row each
    this.real = make("th", { scope: "col" });
    this.body = make("tbody");
    const ranks = Array.from({ length: GUESSES }, (_, i) => make("th", { scope: "col" }, i + 1));
    const head = make("tr", {}, make("th", { scope: "col" }, _`after`), ...ranks, this.real);
    const caption = make("caption", {}, _`First guesses`);
    this.element = make("table", { className: "inside-lens" }, caption, make("thead", {}, head));
    this.element.append(this.body);
  }

  /** Make room for a model of so many layers. */
  put(layers) {
    this.stages = Array.from({ length: layers + 1 }, (stage, i) => {
      const name = make("th", { scope: "row" }, i ? _`layer ${i}` : _`embedding`);
      const cells = Array.from({ length: GUESSES + 1 }, () => make("td"));
      return { row: make("tr", {}, name, ...cells), cells };
    });
    this.body.replaceChildren(...this.stages.map(({ row }) => row));
  }

  /**
   * @param {import("./reading.mjs").Reading} reading
   * @param {number} place
   * @param {string[]} alphabet
   */
  show(reading, place, alphabet) {
    const real = reading.ids[place]; // none after the text
    this.real.textContent = real === undefined ? "" : _`real: ${visible(alphabet[real])}`;
    this.stages.forEach(({ cells }, stage) => {
      const guesses = reading.guesses(stage, place, GUESSES);
      guesses.forEach(({ id, p }, i) => {
        fill(cells[i], p, visible(alphabet[id]));
        cells[i].classList.toggle("inside-right", id === real);
      });
      const last = cells[GUESSES];
      if (real === undefined) last.replaceChildren();
      else fill(last, reading.probability(stage, place, real));
    });
  }
}

/** A guess and its probability, which colours the cell too. */
function fill(cell, p, character = "") {
  const words = make("span", { className: "sampler-value" }, percent(p));
  const letter = make("span", { className: "sampler-label" }, character);
  cell.replaceChildren(...(character ? [letter, " ", words] : [words]));
  cell.style.setProperty("--share", p.toFixed(3));
}
