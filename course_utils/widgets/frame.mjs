// What stands between controls and texts: buttons, a line of news, a bar of progress, and a place
// for a reader's own file.

import { make } from "./elements.mjs";
import { _ } from "./words.mjs";

export class Frame {
  /** What the reader wants is told to these functions; onFile gets the file. */
  constructor({ onGenerate, onOne, onStop, onLink, onFile }) {
    const button = (name, onclick) => make("button", { type: "button", onclick }, name);
    this.generate = button(_`Generate`, onGenerate);
    this.generate.className = "sampler-main";
    this.one = button(_`One character`, onOne);
    this.stop = button(_`Stop`, onStop);
    this.pressed = null; // which of them began what is being written
    this.link = button(_`Copy link`, onLink);
    this.file = make("input", { type: "file", accept: ".safetensors" });
    this.own = make("label", { className: "sampler-file" }, _`Your own model: `, this.file);
    this.status = new Status();
    this.progress = make("progress", { max: 1, "aria-label": _`Loading the weights` });
    this.page = false; // whether this is one: there files can be opened and links copied
    this.onFile = onFile;
    this.file.addEventListener("click", () => {
      this.file.value = ""; // the same file may be chosen again
    });
    this.file.addEventListener("change", () => this.opened(this.file.files));
  }

  /** Put all parts where the reader sees them. */
  mount(el, controls, texts) {
    const buttons = [this.generate, this.one, this.stop, this.link];
    el.classList.add("sampler");
    el.dataset.lmSuppressShortcuts = "true"; // in JupyterLab keys mean what they mean here
    el.replaceChildren(
      controls.promptField,
      controls.element,
      make("div", { className: "sampler-buttons" }, ...buttons, controls.togetherField, this.own),
      this.status.element,
      this.progress,
      texts.element,
    );
    for (const name of ["dragover", "dragleave", "drop"]) {
      el.addEventListener(name, (event) => this.dragged(event, el));
    }
  }

  /** @param {boolean} page whether this is one */
  allow(page) {
    this.page = page;
    this.own.hidden = this.link.hidden = !page;
    // A model that was trained on the same page comes as if it had been chosen here.
    if (page) document.addEventListener("course-model", ({ detail }) => this.onFile(detail));
  }

  dragged(event, el) {
    const { dataTransfer, relatedTarget, type } = event;
    if (type === "dragleave") {
      if (!el.contains(relatedTarget)) el.classList.remove("sampler-dragged");
      return;
    }
    if (!this.page || !dataTransfer?.types.includes("Files")) return;
    event.preventDefault(); // or the browser shows the file itself
    el.classList.toggle("sampler-dragged", type === "dragover");
    if (type !== "drop") return;
    this.file.files = dataTransfer.files; // so that its name is shown
    this.opened(dataTransfer.files);
  }

  opened([file]) {
    if (file) this.onFile(file);
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
    this.progress.hidden = true; // until there is progress
  }

  /** @param {number} share of what has to be loaded */
  advance(share) {
    this.progress.value = share;
    this.progress.hidden = false;
  }
}

/** How things stand: what is wrong with the inputs, else that no answer comes, else the news. */
export class Status {
  constructor() {
    this.element = make("p", { className: "sampler-status", role: "status" });
    this.news = ""; // what is done, was done or went wrong
    this.wrong = false; // whether it went wrong
    this.problem = ""; // with the inputs
    this.silence = ""; // what to say while no answer comes
  }

  say(news, wrong = false) {
    this.show({ news, wrong, problem: "" });
  }

  /** @param {string} problem what is wrong with the inputs; "": nothing is */
  refuse(problem) {
    this.show({ news: "", problem });
  }

  show(changes) {
    Object.assign(this, changes);
    const warning = this.problem || this.silence;
    this.element.textContent = warning || this.news;
    this.element.classList.toggle("sampler-wrong", Boolean(warning) || this.wrong);
  }
}
