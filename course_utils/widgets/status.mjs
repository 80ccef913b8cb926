// The line of news that each widget has, and a bar of progress.

import { make } from "./elements.mjs";
import { _ } from "./words.mjs";

/** How things stand: what is wrong with the inputs, else that no answer comes, else the news. */
export class Status {
  constructor() {
    this.element = make("p", { className: "sampler-status", role: "status" });
    this.progress = make("progress", { max: 1, "aria-label": _`Loading the weights` });
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

  /** @param {number} share of what has to be loaded */
  advance(share) {
    this.progress.value = share;
    this.progress.hidden = false;
  }

  show(changes) {
    Object.assign(this, changes);
    const warning = this.problem || this.silence;
    this.element.textContent = warning || this.news;
    this.element.classList.toggle("sampler-wrong", Boolean(warning) || this.wrong);
    this.progress.hidden = true; // until there is more
  }
}
