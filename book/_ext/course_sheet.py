"""The sheet for the wall: pictures with shapes of a recorded model, and a ladder of losses."""

from functools import cache

import torch
from course_pages import PROMPT, deepest
from course_playground import models
from course_study import baselines

from course_utils import figures, files
from course_utils.training import checkpoints


@cache
def model():
    """The deepest published model, and the shapes of what flows through it: name -> shape."""
    gpt, tokenizer = checkpoints.load_model(deepest().checkpoint)
    tokens = torch.tensor([tokenizer.encode(PROMPT)])
    with torch.no_grad():
        x = gpt.embedding(tokens)
        attention = gpt.blocks[0].attention
        q, k, _ = attention.queries_keys_values(x)
        flow = {"tokens": tokens, "x": x, "logits": gpt(tokens)}
        flow |= {"q": q[0, 0], "scores": (q @ k.mT)[0, 0], "out": q[0, 0]}
    return gpt, {name: tuple(tensor.shape) for name, tensor in flow.items()}


def decoder():
    gpt, shapes = model()
    yield figures.decoder_stack(shapes, len(gpt.blocks), position=gpt.config.position)


def attention():
    """One head, which reads its own channels of x."""
    _, shapes = model()
    yield figures.attention_flow(shapes | {"x": shapes["x"][1:]})


def heads():
    gpt, shapes = model()
    yield figures.heads_cut(shapes["x"][1], gpt.config.d_model, gpt.config.n_heads)


def block():
    yield figures.block_sides()


def step():
    yield figures.training_step(model()[1])


def ladder():
    """What counting reaches, and the models of the plain protocol."""
    trained = {record.arm: record.validation_loss for record in models(files.PUBLISHED)}
    yield figures.loss_bars(baselines() | trained)


PASSAGES = {
    "sheet-decoder": decoder,
    "sheet-attention": attention,
    "sheet-heads": heads,
    "sheet-block": block,
    "sheet-step": step,
    "sheet-ladder": ladder,
}
