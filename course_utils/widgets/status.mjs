// The line of news that each widget has.

import { make } from "./elements.mjs";

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
