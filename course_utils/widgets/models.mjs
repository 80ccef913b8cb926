// The models that can be shown: those that the host has, and those that a reader brings.

export class Models {
  /** @param {import("./host.mjs").Host} host */
  constructor(host) {
    this.host = host;
    this.all = []; // {number, name, about: {alphabet, context}, once it is loaded}
  }

  get names() {
    return this.all.map(({ name }) => name);
  }

  /** How many characters the largest alphabet has that is known by now. */
  get mostCharacters() {
    return Math.max(...this.all.map(({ about }) => (about ? [...about.alphabet].length : 0)));
  }

  /** Ask the host for its models, and for all that it says beside them. */
  async meet(signal) {
    const { models, ...said } = await this.host.ask({ kind: "hello" }, signal);
    this.all = models.map((name, number) => ({ number, name }));
    return said;
  }

  /** @param {number[]} numbers of models @returns {Promise<object[]>} them, loaded all at a time */
  load(numbers, signal) {
    const load = async (model) => {
      model.about ??= await this.host.ask({ kind: "load", model: model.number }, signal);
      return model;
    };
    return Promise.all(numbers.map((number) => load(this.all[number])));
  }

  /** @param {File} file a reader's own model @returns {Promise<number>} its number */
  async open(file) {
    const { model, name, ...about } = await this.host.ask({ kind: "open", file });
    this.all[model] = { number: model, name, about };
    return model;
  }
}
