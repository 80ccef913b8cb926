"""What a model finds hard: its loss by half of the text, and by place in the context."""

import itertools


def half(length, context_length):
    """Where so many losses are cut in two: between two windows, and for most contexts alike."""
    unit = 1024 if 1024 % context_length == 0 and length >= 8 * 1024 else context_length
    return length // 2 // unit * unit or length // 2


def by_position(losses, context_length):
    """Mean losses at places 1, 2, 3–4, 5–8, … of the windows that are full."""
    full = len(losses) // context_length
    if not full:
        return []
    windows = losses[: full * context_length].view(full, context_length)
    edges = [0, *(2**i for i in range(context_length.bit_length())), context_length]
    return [windows[:, a:b].mean().item() for a, b in itertools.pairwise(edges) if a < b]
