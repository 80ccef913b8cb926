"""A trained model as one safetensors file: written whole, and read with suspicion."""

from dataclasses import asdict
from pathlib import Path

import torch

from course_utils.files import RunError, read_tensors, write_tensors
from course_utils.lessons.data import CharTokenizer
from course_utils.lessons.model import GPT, GPTConfig

GROUP = 16  # neighbours in a row of an int8 matrix that share a scale
MOST_CACHED = (
    2**28
)  # numbers in the keys and values of one text; a file that asks for more was not made here


def save_model(path, model, alphabet, dtype=torch.float32, whole=()):
    """Weights and all that is needed to use them, as one safetensors file, whole or absent.

    whole: {NAME: int8, NAME.scale: float16}, matrices to be kept in whole numbers, as tools/rounding.py makes them.
    """
    weights = {name: weight.to(dtype) for name, weight in model.state_dict().items()}
    if model.config.tie_embeddings:
        del weights["head.weight"]
    write_tensors(
        path, weights | dict(whole), {"config": asdict(model.config), "alphabet": alphabet}
    )


def full(name, weights):
    """A weight in full precision, whatever it was kept in. An int8 matrix has a scale for each GROUP of a row."""
    weight = weights[name].float()
    if weights[name].dtype != torch.int8:
        return weight
    return weight * weights[f"{name}.scale"].float().repeat_interleave(GROUP, 1).view(weight.shape)


def load_model(path, alphabet=None):
    """A model in evaluation mode and its tokenizer, from a checkpoint; nothing in the file is executed.

    alphabet: if given, the characters that the checkpoint must have been trained on.
    """
    path = Path(path)
    weights, about = read_tensors(path, "checkpoint")
    try:
        weights = {name: full(name, weights) for name in weights if not name.endswith(".scale")}
        config = GPTConfig(**about["config"])
        if not sizes_fit(config, weights):
            raise ValueError
        model = GPT(config)
        if model.config.tie_embeddings:
            weights["head.weight"] = weights["embedding.weight"]
        model.load_state_dict(weights)
        tokenizer = CharTokenizer(about["alphabet"])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError):
        raise RunError(f"{path}: its weights do not fit the model that it describes") from None
    if tokenizer.vocab_size != model.config.vocab_size or not all(
        w.isfinite().all() for w in weights.values()
    ):
        raise RunError(
            f"{path} holds weights that are not numbers, or an alphabet of another size than its model's"
        )
    if alphabet is not None and alphabet != tokenizer.alphabet:
        raise RunError(
            f"{path} was trained on another alphabet ({tokenizer.vocab_size} characters, the text has "
            f"{len(alphabet)}): choose a checkpoint of this text, or train one"
        )
    return model.eval(), tokenizer


def sizes_fit(config, weights):
    """Whether a config's sizes are those of the weights; asked before memory is taken for what a config says."""
    c, halves = config, 2 if config.activation == "swiglu" else 1
    up = weights["blocks.0.feed_forward.up.weight"]
    layers = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    sizes = (*weights["embedding.weight"].shape, *up.shape, len(layers))
    cached = 2 * c.n_layers * c.context_length * c.d_model
    return (
        sizes == (c.vocab_size, c.d_model, halves * c.d_ff, c.d_model, c.n_layers)
        and cached <= MOST_CACHED
    )
