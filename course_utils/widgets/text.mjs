// A text as it grows, in a box, each of whose characters can be pointed at.

import { button, make, walked } from "./elements.mjs";
import { _ } from "./words.mjs";

const NEAR_PX = 8; // so close to its end, the reader is taken to follow the text

export class Text {
  /**
   * @param {string} name whose text it is
   * @param {() => void} onPoint another character is pointed at: `at`, or none: null
   * @param {(said: string) => void} tell the reader what was done
   */
  constructor(name, onPoint, tell) {
    Object.assign(this, { name, onPoint, tell });
    this.box = make("div", {
      className: "sampler-text",
      tabIndex: 0,
      role: "group",
      "aria-label": _`Text of ${name}; arrow keys walk through it`,
    });
    this.whole = this.button(_`Whole text`, () => this.show(!this.isWhole));
    const copy = this.button(_`Copy text`, () => this.copy());
    const title = make("p", { className: "sampler-name" }, name);
    const head = make("div", { className: "sampler-head" }, title, this.whole, copy);
    this.element = make("div", {}, head, this.box);

    const under = ({ target }) => this.point(target.dataset.at ?? null);
    this.box.addEventListener("pointerover", under);
    this.box.addEventListener("click", under);
    this.box.addEventListener("pointerleave", ({ pointerType }) => {
      if (pointerType === "mouse") this.point(null);
    });
    this.box.addEventListener("keydown", (event) => this.walk(event));
    this.show(false);
    this.begin("");
  }

  button(label, onclick) {
    return button(label, onclick, { "aria-label": _`${label} of ${this.name}` });
  }

  begin(prompt) {
    this.letters = [];
    this.at = null;
    this.box.replaceChildren(make("span", { className: "sampler-prompt" }, prompt));
  }

  /** @param {string[]} characters */
  append(characters) {
    const { box, letters } = this;
    const follows = box.scrollTop + box.clientHeight > box.scrollHeight - NEAR_PX;
    for (const character of characters) {
      const letter = make("span", {}, character);
      letter.dataset.at = letters.length;
      letters.push(letter);
      box.append(letter);
    }
    if (characters.length && follows) box.scrollTop = box.scrollHeight;
  }

  /** @param {number|string|null} at */
  point(at) {
    this.letters[this.at]?.classList.remove("sampler-at");
    this.at = at === null ? null : Number(at);
    this.letters[this.at]?.classList.add("sampler-at");
    this.onPoint();
  }

  walk(event) {
    const { length } = this.letters;
    const to = event.key === "Escape" ? null : walked(event, this.at ?? length, 0, length - 1);
    if (to === undefined) return;
    this.point(to);
    this.letters[to]?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** @param {boolean} whole all of it at once, or as much as a box of it can show */
  show(whole) {
    this.isWhole = whole;
    this.box.classList.toggle("sampler-whole", whole);
    this.whole.setAttribute("aria-pressed", whole);
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.box.textContent);
      this.tell(_`The text of ${this.name} is copied.`);
    } catch {
      getSelection().selectAllChildren(this.box); // a page in a frame may not write there
      this.tell(_`The text is selected: copy it with your keyboard or menu.`);
    }
  }
}
