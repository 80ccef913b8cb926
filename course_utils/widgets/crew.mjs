// One more thread of a training: hands.mjs asks, and it reads its share of a step's windows and
// moves its share of the weights, of whichever model is meant.

import { Learner } from "./learner.mjs";

let learners; // one a model
let held; // the validation split

const answers = {
  begin({ models, train, ids, held: given, number, threads }) {
    learners = models.map((model) => new Learner(model, train, ids, number, threads));
    held = given;
    return {};
  },

  resume(state, learner) {
    learner.resume(state);
    return {};
  },

  /** numbers: all weights -> the gradients of the windows that are read here */
  read({ numbers }, learner) {
    learner.network.allWeights.set(numbers);
    const loss = learner.read();
    return { loss, arrays: [learner.network.allGradients.slice()] };
  },

  /** numbers: all gradients, gathered and clipped -> the weights that are moved here */
  move({ numbers }, learner) {
    learner.network.allGradients.set(numbers);
    learner.move();
    return { arrays: learner.movedBy(learner.number).map((weights) => weights.slice()) };
  },

  /** numbers: all weights -> the summed losses of a part of the held-out text */
  hold({ numbers, from, to }, learner) {
    learner.network.allWeights.set(numbers);
    return { sum: learner.hold(held, from, to) };
  },

  memory: (_, learner) => ({ arrays: learner.memory.map((array) => array.slice()) }),
};

self.onmessage = ({ data }) => {
  const answer = answers[data.kind](data, learners?.[data.which]);
  self.postMessage(answer, answer.arrays?.map(({ buffer }) => buffer) ?? []);
};
