"""A trained model as one safetensors file: written whole, and read with suspicion."""

from dataclasses import asdict
from pathlib import Path

import torch

from course_utils.files import RunError, read_tensors, write_tensors
from course_utils.lessons.data import CharTokenizer
from course_utils.lessons.model import GPT, GPTConfig

GROUP = 16  # neighbours in a row of an int8 matrix that share a scale
# Numbers in the keys and values of one text: a file that asks for more was not made here.
MOST_CACHED = 2**28


def save_model(path, model, alphabet, dtype=torch.float32, int8_matrices=()):
    """Weights and all that is needed to use them, as one safetensors file, whole or absent.

    int8_matrices: {NAME: int8, NAME.scale: float16} in place of the matrices of these names.
    """
    weights = {name: weight.to(dtype) for name, weight in model.state_dict().items()}
    if model.config.tie_embeddings:
        del weights["head.weight"]
    weights |= dict(int8_matrices)
    write_tensors(path, weights, {"config": asdict(model.config), "alphabet": alphabet})


def dequantized(tensors, name):
    """A weight as float32, whatever it was kept in; an int8 matrix has a scale for each GROUP."""
    weight = tensors[name].float()
    if tensors[name].dtype != torch.int8:
        return weight
    scales = tensors[f"{name}.scale"].float()
    return weight * scales.repeat_interleave(GROUP, dim=1).view(weight.shape)


def load_model(path, alphabet=None):
    """A model in evaluation mode and its tokenizer, from a checkpoint; nothing in it is executed.

    alphabet: if given, the characters that the checkpoint must have been trained on.
    """
    path = Path(path)
    tensors, about = read_tensors(path, "checkpoint")
    try:
        model = model_from(tensors, about)
        tokenizer = CharTokenizer(about["alphabet"])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError):
        raise RunError(f"{path}: its weights do not fit the model that it describes") from None

    finite = all(weight.isfinite().all() for weight in model.state_dict().values())
    if tokenizer.vocab_size != model.config.vocab_size or not finite:
        raise RunError(
            f"{path} holds weights that are not numbers, or an alphabet of another size than its "
            "model's"
        )
    if alphabet is not None and alphabet != tokenizer.alphabet:
        raise RunError(
            f"{path} was trained on another alphabet ({tokenizer.vocab_size} characters, the text "
            f"has {len(alphabet)}): choose a checkpoint of this text, or train one"
        )
    return model, tokenizer


def model_from(tensors, about):
    """The model that a file's tensors and its words about them make, in evaluation mode."""
    weights = {name: dequantized(tensors, name) for name in tensors if not name.endswith(".scale")}
    config = GPTConfig(**about["config"])
    if not sizes_fit(config, weights):
        raise ValueError
    model = GPT(config)
    if config.tie_embeddings:
        weights["head.weight"] = weights["embedding.weight"]
    model.load_state_dict(weights)
    return model.eval()


def matrix_weights(config):
    """How many weights a model's matrices have, the head's too; the other weights are few."""
    c = config
    matrices = 3 if c.activation == "swiglu" else 2
    feed_forward = matrices * c.d_model * c.d_ff
    return c.n_layers * (4 * c.d_model**2 + feed_forward) + c.vocab_size * c.d_model


def sizes_fit(config, weights):
    """Whether a config's sizes are its weights'; asked before memory is taken for what it says."""
    c = config
    up_rows, up_columns = weights["blocks.0.feed_forward.up.weight"].shape
    halves = 2 if c.activation == "swiglu" else 1
    layers = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    return (
        weights["embedding.weight"].shape == (c.vocab_size, c.d_model)
        and (up_rows, up_columns) == (halves * c.d_ff, c.d_model)
        and len(layers) == c.n_layers
        and 2 * c.n_layers * c.context_length * c.d_model <= MOST_CACHED
    )
