"""A model and its training, on disk: recipes, the engine of a step, the loop, exact evaluation, checkpoints, runs."""
