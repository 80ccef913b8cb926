// What stands between controls and texts: buttons, a line of news, a bar of progress, and a place
// for a reader's own file.

import { make } from "./elements.mjs";

export class Frame {
  /** What the reader wants is told to these functions; onFile gets the file. */
  constructor({ onGenerate, onOne, onStop, onLink, onFile }) {
    const button = (name, onclick) => make("button", { type: "button", onclick }, name);
    this.generate = button("Generate", onGenerate);
    this.one = button("One character", onOne);
    this.stop = button("Stop", onStop);
    this.link = button("Copy link", onLink);
    this.file = make("input", { type: "file", accept: ".safetensors" });
    this.own = make("label", { className: "sampler-file" }, "Your own model: ", this.file);
    this.status = new Status();
    this.progress = make("progress", { max: 1, "aria-label": "Loading the weights" });
    this.page = false; // whether this is one: there files can be opened and links copied
    this.onFile = onFile;
    this.file.addEventListener("change", () => {
      if (this.file.files.length) onFile(this.file.files[0]);
    });
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
    for (const event of ["dragover", "drop"]) {
      el.addEventListener(event, (dropped) => this.dropped(dropped));
    }
  }

  /** @param {boolean} page whether this is one */
  allow(page) {
    this.page = page;
    this.own.hidden = this.link.hidden = !page;
  }

  dropped(event) {
    if (!this.page || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    if (event.type === "drop" && event.dataTransfer.files.length) {
      this.onFile(event.dataTransfer.files[0]);
    }
  }

  /**
   * Let the buttons do what makes sense now.
   * @param {"" | "loading" | "writing"} activity @param {boolean} usable whether a model is there
   */
  settle(activity, usable) {
    const leaving = document.activeElement === this.stop && activity !== "writing";
    this.generate.disabled = this.one.disabled = activity !== "" || !usable;
    if (leaving) this.generate.focus(); // not left on a dead button
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
class Status {
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
