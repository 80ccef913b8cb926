// What stands between controls and texts: buttons, a line of news, and a place for a reader's own
// file.

import { button, make, takeDropped } from "./elements.mjs";
import { Status } from "./status.mjs";
import { _ } from "./words.mjs";

export class Frame {
  /** What the reader wants is told to these functions; onFile gets the file. */
  constructor({ onGenerate, onOne, onStop, onLink, onFile }) {
    this.generate = button(_`Generate`, onGenerate, { className: "sampler-main" });
    this.one = button(_`One character`, onOne);
    this.stop = button(_`Stop`, onStop);
    this.pressed = null; // which of them began what is being written
    this.link = button(_`Copy link`, onLink);
    this.file = make("input", { type: "file", accept: ".safetensors" });
    this.own = make("label", { className: "sampler-file" }, _`Your own model: `, this.file);
    this.status = new Status();
    this.page = false; // whether this is one: there files can be opened and links copied
    this.onFile = onFile;
    this.file.addEventListener("click", () => {
      this.file.value = ""; // the same file may be chosen again
    });
    this.file.addEventListener("change", () => {
      for (const file of this.file.files) onFile(file);
    });
  }

  /** Put all parts where the reader sees them. */
  mount(el, controls, texts) {
    const { togetherField } = controls.choice;
    const buttons = [this.generate, this.one, this.stop, this.link, togetherField, this.own];
    el.classList.add("sampler");
    el.dataset.lmSuppressShortcuts = "true"; // in JupyterLab keys mean what they mean here
    el.replaceChildren(
      controls.promptField,
      controls.element,
      make("div", { className: "sampler-buttons" }, ...buttons),
      this.status.element,
      this.status.progress,
      texts.element,
    );
    this.element = el;
  }

  /** @param {boolean} page whether this is one */
  allow(page) {
    this.page = page;
    this.own.hidden = this.link.hidden = !page;
    if (!page) return;
    takeDropped(this.element, this.file);
    // A model that was trained on the same page comes as if it had been chosen here.
    document.addEventListener("course-model", ({ detail }) => this.onFile(detail));
  }

  /**
   * Let the buttons do what makes sense now.
   * @param {"" | "loading" | "writing"} activity @param {boolean} usable whether a model is there
   */
  settle(activity, usable) {
    const { activeElement } = document;
    const begins = [this.generate, this.one];
    if (activity === "writing") this.pressed = begins.find((button) => button === activeElement);
    for (const button of begins) button.disabled = activity !== "" || !usable;
    // Whoever has pressed a button finds the focus there again, not on one that is dead by now.
    const lost = [document.body, this.stop, ...begins].includes(activeElement);
    const pressed = this.pressed ?? (activeElement === this.stop ? this.generate : null);
    if (activity === "" && lost) {
      pressed?.focus({ preventScroll: true });
      this.pressed = null;
    }
    this.stop.disabled = activity !== "writing";
    this.link.disabled = !usable;
  }
}
