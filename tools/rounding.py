"""A trained model's matrices as whole numbers: each rounding makes up for the errors before it.

Frantar et al. (2022), GPTQ: https://arxiv.org/abs/2210.17323
"""

from copy import deepcopy

import torch

from course_utils.lessons.model import positions_at
from course_utils.training.checkpoints import GROUP, dequantized

DAMPING = 0.01  # of the inputs' mean square, added to each one's: keeps the equations solvable


@torch.no_grad()
def rounded(model, tokens):
    """The blocks' matrices as a checkpoint holds them.

    tokens: (B, T) of the training text; what a matrix is given there decides what an error costs.
    -> {NAME: (O, I) int8, NAME.scale: (O, I / GROUP) float16}

    First a matrix moves to where, given what the rounded model gives it, it comes nearest to what
    the exact model makes; then it is rounded.
    """
    rough = deepcopy(model)
    found = {}
    added, angles = positions_at(model, 0, tokens.shape[1])
    x = rough_x = model.embedding(tokens) * model.scale + added
    for i, (block, rough_block) in enumerate(zip(model.blocks, rough.blocks, strict=True)):
        for norm, layer, inner in (
            ("norm_1", "attention", "qkv"),
            ("norm_2", "feed_forward", "up"),
        ):
            for matrix in (inner, "out"):
                name, path = f"blocks.{i}.{layer}.{matrix}.weight", (norm, layer, matrix, angles)
                weight = model.get_parameter(name)
                after, given = through(block, x, *path)
                _, seen = through(rough_block, rough_x, *path)
                lost = (given - seen) @ weight.T
                if matrix == "out" and block.residual:
                    lost += (x - rough_x).flatten(0, 1)
                gram = (seen.T @ seen).double()
                gram.diagonal().add_(DAMPING * gram.diagonal().mean())
                found |= in_whole_numbers(
                    name, weight + torch.linalg.solve(gram, (seen.T @ lost).double()).T, gram
                )
                rough.get_parameter(name).copy_(dequantized(found, name))
            x, rough_x = after, through(rough_block, rough_x, *path)[0]
    return found


def through(block, x, norm, layer, matrix, angles):
    """The stream behind a layer, (B, T, C); what a matrix in it was given, (B * T, I)."""
    part = getattr(block, layer)
    given = []
    hook = getattr(part, matrix).register_forward_pre_hook(
        lambda _, inputs: given.append(inputs[0].flatten(0, 1))
    )
    more = (angles,) if layer == "attention" else ()
    x = block.add(x, getattr(block, norm), lambda h: part(h, *more))
    hook.remove()
    return x, given[0]


def in_whole_numbers(name, weight, gram):
    """Column by column, left to right; the columns to come take an error over.

    How much of it each can take depends on how far its inputs go together with this column's.
    """
    scales = (weight.unflatten(1, (-1, GROUP)).abs().amax(2) / 127).clamp(min=2**-14).half()
    steps = scales.double().repeat_interleave(GROUP, 1)
    whole = torch.empty_like(weight)
    left = weight.clone()
    for i, row in enumerate(torch.linalg.cholesky(torch.linalg.inv(gram), upper=True)):
        whole[:, i] = (left[:, i] / steps[:, i]).round().clamp(-127, 127)
        left[:, i:] -= ((left[:, i] - whole[:, i] * steps[:, i]) / row[i])[:, None] * row[i:]
    return {name: whole.to(torch.int8), f"{name}.scale": scales}


def difference(logits, exact):
    """The worst error of a logit, and how often the likeliest character stays; both (N, V)."""
    same = logits.argmax(-1) == exact.argmax(-1)
    return (logits - exact).abs().max().item(), same.float().mean().item()
