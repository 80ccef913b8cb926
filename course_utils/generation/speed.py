"""How fast a model writes on this machine."""

import statistics
import time

import torch

from course_utils.generation.writer import generate

ROUNDS = 3


def characters_per_s(model, tokens, length):
    """New characters a second, of one text of this length after the prompt: the median of ROUNDS.

    tokens (1, T) int64. A short text is written first, so that nothing is loaded while time counts.
    """
    generate(model, tokens, min(length, 20))
    seconds = []
    for number in range(ROUNDS):
        generator = torch.Generator(tokens.device).manual_seed(number)
        begin = time.perf_counter()
        generate(model, tokens, length, generator=generator).sum().item()  # waits for a GPU
        seconds.append(time.perf_counter() - begin)
    return length / statistics.median(seconds)
