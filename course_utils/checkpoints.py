"""A trained model as one safetensors file: written whole, and read with suspicion."""

from dataclasses import asdict
from pathlib import Path

import torch

from course_utils.files import RunError, read_tensors, write_tensors
from course_utils.lessons.data import CharTokenizer
from course_utils.lessons.model import GPT, GPTConfig

MOST_CACHED = 2**28  # numbers in the keys and values of one text; a file that asks for more was not made here


def save_model(path, model, alphabet, dtype=torch.float32):
    """Weights and all that is needed to use them, as one safetensors file, whole or absent.

    dtype: torch.int8 makes the blocks' matrices int8, each with its scales beside it.
    """
    weights = dict(model.state_dict())
    if model.config.tie_embeddings:
        del weights["head.weight"]
    if dtype == torch.int8:
        weights = {key: each for name, weight in weights.items() for key, each in quantised(name, weight).items()}
    else:
        weights = {name: weight.to(dtype) for name, weight in weights.items()}
    write_tensors(path, weights, {"config": asdict(model.config), "alphabet": alphabet})


def quantised(name, weight):
    """A block's matrix (O, I) as whole numbers from -127 to 127, with a scale a row (O,); all else in half precision.

    The embedding is small, and an error in it goes straight into the logits.
    """
    if weight.ndim != 2 or not name.startswith("blocks."):
        return {name: weight.half()}
    scales = weight.abs().amax(1).clamp(min=1e-12) / 127
    return {name: (weight / scales[:, None]).round().to(torch.int8), f"{name}.scale": scales}


def full(name, weights):
    """A weight in full precision, whatever it was kept in."""
    weight = weights[name].float()
    return weight * weights[f"{name}.scale"].float()[:, None] if weights[name].dtype == torch.int8 else weight


def load_model(path, alphabet=None):
    """A model in evaluation mode and its tokenizer, from a checkpoint; nothing in the file is executed.

    alphabet: if given, the characters that the checkpoint must have been trained on.
    """
    path = Path(path)
    weights, about = read_tensors(path, "checkpoint")
    try:
        weights = {name: full(name, weights) for name in weights if not name.endswith(".scale")}
        config = GPTConfig(**about["config"])
        if not describes(config, weights):
            raise ValueError
        model = GPT(config)
        if model.config.tie_embeddings:
            weights["head.weight"] = weights["embedding.weight"]
        model.load_state_dict(weights)
        tokenizer = CharTokenizer(about["alphabet"])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError):
        raise RunError(f"{path}: its weights do not fit the model that it describes") from None
    if tokenizer.vocab_size != model.config.vocab_size or not all(w.isfinite().all() for w in weights.values()):
        raise RunError(f"{path} holds weights that are not numbers, or an alphabet of another size than its model's")
    if alphabet is not None and alphabet != tokenizer.alphabet:
        raise RunError(
            f"{path} was trained on another alphabet ({tokenizer.vocab_size} characters, the text has "
            f"{len(alphabet)}): choose a checkpoint of this text, or train one"
        )
    return model.eval(), tokenizer


def describes(config, weights):
    """Whether a config's sizes are those of the weights; asked before memory is taken for what a config says."""
    c, halves = config, 2 if config.activation == "swiglu" else 1
    up = weights["blocks.0.feed_forward.up.weight"]
    layers = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    sizes = (*weights["embedding.weight"].shape, *up.shape, len(layers))
    cached = 2 * c.n_layers * c.context_length * c.d_model
    return sizes == (c.vocab_size, c.d_model, halves * c.d_ff, c.d_model, c.n_layers) and cached <= MOST_CACHED
