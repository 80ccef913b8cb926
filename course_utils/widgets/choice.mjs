// Which of the models are shown: one of a list, or all side by side.

import { make } from "./elements.mjs";
import { _ } from "./words.mjs";

export class Choice {
  /** @param {() => void} onChange others are chosen */
  constructor(onChange) {
    this.list = make("select", { "aria-label": _`Model` });
    this.together = make("input", { type: "checkbox" });
    this.togetherField = make("label", {}, this.together, _` all side by side`);
    for (const input of [this.list, this.together]) {
      input.addEventListener("change", () => {
        this.list.disabled = this.together.checked;
        onChange();
      });
    }
  }

  /** @param {string[]} names */
  offer(names) {
    const chosen = this.list.value;
    this.list.replaceChildren(...names.map((name, value) => make("option", { value }, name)));
    this.list.value = chosen;
    this.togetherField.hidden = names.length < 2;
  }

  /** Begin as the settings say; without a known model, with the last. */
  take({ model, together }) {
    const known = this.numbers.map(String).includes(String(model));
    this.choose(known ? model : this.numbers.length - 1, [true, "true"].includes(together));
  }

  /** @param {number|string} model @param {boolean} [together] */
  choose(model, together = false) {
    this.list.value = model;
    this.list.disabled = this.together.checked = together;
  }

  get numbers() {
    return Array.from(this.list.options, ({ value }) => Number(value));
  }

  /** The numbers of the chosen models. */
  get chosen() {
    return this.together.checked ? this.numbers : [Number(this.list.value)];
  }
}
