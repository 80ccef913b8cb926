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

  /** numbers: all weights -> the gradients of the windows that are read here */
  read({ numbers }) {
    learner.network.allWeights.set(numbers);
    const loss = learner.read();
    return { loss, arrays: [learner.network.allGradients.slice()] };
  },

  /** numbers: all gradients, gathered and clipped -> the weights that are moved here */
  move({ numbers }) {
    learner.network.allGradients.set(numbers);
    learner.move();
    return { arrays: learner.movedBy(learner.number).map((weights) => weights.slice()) };
  },

  /** numbers: all weights -> the summed losses of a part of the held-out text */
  hold({ numbers, from, to }) {
    learner.network.allWeights.set(numbers);
    return { sum: learner.hold(held, from, to) };
  },

  memory: () => ({ arrays: learner.memory.map((array) => array.slice()) }),
};

self.onmessage = ({ data }) => {
  const answer = answers[data.kind](data);
  self.postMessage(answer, answer.arrays?.map(({ buffer }) => buffer) ?? []);
};
