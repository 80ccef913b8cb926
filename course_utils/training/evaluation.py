"""What a model finds hard, by half of the text and by place, and where its heads look."""

import itertools

import torch

from course_utils.lessons.attention import attention_weights


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


@torch.no_grad()
def attention_maps(model, tokens):
    """The weights of every head of every layer: tokens (1, T) int64 -> {"L1:H1": (T, T), …}.

    Row t: how much position t listens to itself and to each earlier one; rows sum to 1.
    """
    asked = []  # what each attention was called with: its x, and the angles of its positions
    hooks = [
        block.attention.register_forward_pre_hook(lambda layer, given: asked.append((layer, given)))
        for block in model.blocks
    ]
    try:
        model(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    maps = {}
    for i, (layer, (x, angles, _)) in enumerate(asked, start=1):
        q, k, _ = layer.queries_keys_values(x, angles)
        for head, weights in enumerate(attention_weights(q, k)[0], start=1):
            maps[f"L{i}:H{head}"] = weights
    return maps
