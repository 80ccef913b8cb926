"""A model and its training, on disk.

recipes, then the engine of a step, the trainer's loop, exact evaluation, checkpoints, and runs.
"""
