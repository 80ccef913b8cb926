// One more thread of a training: trainer.mjs asks, and it reads its share of a step's windows and
// moves its share of the weights.

import { Learner } from "./learner.mjs";

let learner;
let held; // the validation split

const answers = {
  begin({ model, train, ids, held: given, number, threads }) {
    learner = new Learner(model, train, ids, number, threads);
    held = given;
    return {};
  },

  resume(state) {
    learner.resume(state);
    return {};
  },

  read({ weights }) {
    learner.network.allWeights.set(weights);
    const loss = learner.read();
    return { loss, arrays: [learner.network.allGradients.slice()] };
  },

  /** gradients: all of them, gathered and clipped -> the weights that are moved here */
  move({ gradients }) {
    learner.network.allGradients.set(gradients);
    learner.move();
    return { arrays: learner.movedBy(learner.number).map((weights) => weights.slice()) };
  },

  hold({ weights, from, to }) {
    learner.network.allWeights.set(weights);
    return { sum: learner.hold(held, from, to) };
  },

  memory: () => ({ arrays: learner.memory.map((array) => array.slice()) }),
};

self.onmessage = ({ data }) => {
  const answer = answers[data.kind](data);
  self.postMessage(answer, answer.arrays?.map(({ buffer }) => buffer) ?? []);
};
