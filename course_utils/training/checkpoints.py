"""A trained model as one safetensors file: written whole, and read with suspicion."""

import hashlib
import math
import re
from dataclasses import asdict
from pathlib import Path

import torch

from course_utils import files
from course_utils.files import RunError
from course_utils.lessons.data import CharTokenizer
from course_utils.lessons.model import GPT, GPTConfig
from course_utils.messages import _

# What a weight may be kept in, by safetensors' names. The page's reader has the same list.
KINDS = ("F32", "F16", "BF16", "I8")
SCALE_KIND = "F16"  # of an int8 matrix, which has one scale for each GROUP
GROUP = 16  # neighbours in a row

# Bounds of what is trained and of what is read: a file that asks for more was not made here.
MOST_LAYERS = 256
MOST_NUMBERS = 2**28  # of weights; and of the keys and values of one text
LARGEST = 1e6  # weights this large mean divergence, even if the loss is finite


def save_model(path, model, alphabet, dtype=torch.float32, int8_matrices=()):
    """Weights and all that is needed to use them, as one safetensors file, whole or absent.

    int8_matrices: {NAME: int8, NAME.scale: float16} in place of the matrices of these names.
    """
    weights = {name: weight.to(dtype) for name, weight in model.state_dict().items()}
    if model.config.tie_embeddings:
        del weights["head.weight"]
    weights |= dict(int8_matrices)
    files.write_tensors(path, weights, {"config": asdict(model.config), "alphabet": alphabet})


def weights_sha256(model):
    """The sha256 of a model's trained numbers, in order of name: equal for the same bits."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def is_whole(path):
    """Whether a file keeps its weights as they were trained, no number of them rounded."""
    claims, _ = files.read_header(path, "checkpoint")
    return {kind for kind, _ in claims.values()} == {"F32"}


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
    # First what the file says that it holds; only then is memory taken for it.
    claims, about = files.read_header(path, "checkpoint")
    config = described_config(path, claims, about)
    tokenizer = described_tokenizer(path, about, config)
    tensors = files.read_tensors(path, "checkpoint")[0]
    model = build(path, config, tensors)
    if alphabet is not None and alphabet != tokenizer.alphabet:
        raise RunError(
            _(
                "{path} was trained on another alphabet ({vocab_size} characters, the text has "
                "{alphabet}): choose a checkpoint of this text, or train one",
                path=path,
                vocab_size=tokenizer.vocab_size,
                alphabet=len(alphabet),
            )
        )
    return model, tokenizer


def described_config(path, claims, about):
    """The GPTConfig that a checkpoint describes, if the tensors that it claims are of that size."""
    for name, (kind, _shape) in claims.items():
        if kind not in KINDS or (name.endswith(".scale") and kind != SCALE_KIND):
            raise RunError(
                _(
                    "{path}: its weights must be of the kinds {kinds}, the scales of I8 "
                    "{scale_kind}; {advice}",
                    path=path,
                    kinds=", ".join(KINDS),
                    scale_kind=SCALE_KIND,
                    advice=_(files.ADVICE),
                )
            )
    try:
        config = GPTConfig(**files.fields_of(GPTConfig, about["config"]))
        whole = about["config"].keys() == GPTConfig.__dataclass_fields__.keys()
        fits = whole and sizes_fit(config, claims)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise misfit(path)
    try:
        check_bounds(config)
    except ValueError as error:
        words = _("{path}: {error}; {advice}", path=path, error=error, advice=_(files.ADVICE))
        raise RunError(words) from None
    return config


def described_tokenizer(path, about, config):
    """The tokenizer of a checkpoint's alphabet, which is written as a tokenizer has it."""
    alphabet = about.get("alphabet")
    usable = isinstance(alphabet, str) and alphabet and not re.search("[\ud800-\udfff]", alphabet)
    tokenizer = CharTokenizer(alphabet) if usable else None
    if not usable or tokenizer.alphabet != alphabet or len(alphabet) != config.vocab_size:
        raise RunError(
            _(
                "{path} holds an alphabet of another size than its model's, or one that is not "
                "different characters in order; {advice}",
                path=path,
                advice=_(files.ADVICE),
            )
        )
    return tokenizer


def build(path, config, tensors):
    """The model of a config with a checkpoint's tensors as its weights, in evaluation mode."""
    try:
        names = [name for name in tensors if not name.endswith(".scale")]
        weights = {name: dequantized(tensors, name) for name in names}
        if config.tie_embeddings:
            weights["head.weight"] = weights["embedding.weight"]
        model = GPT(config)
        model.load_state_dict(weights)
    except (KeyError, RuntimeError):
        raise misfit(path) from None
    if not sound(weights.values()):
        raise RunError(
            _(
                "{path} holds weights that are not numbers, or so large (above {largest:,.0f}) "
                "as no training makes them; {advice}",
                path=path,
                largest=LARGEST,
                advice=_(files.ADVICE),
            )
        )
    return model.eval()


def sound(weights):
    """Whether all weights are numbers, and of a size that training gives them."""
    return all(w.isfinite().all() and w.abs().max() <= LARGEST for w in weights)


def misfit(path):
    return RunError(
        _(
            "{path}: its weights do not fit the model that it describes; {advice}",
            path=path,
            advice=_(files.ADVICE),
        )
    )


def sizes_fit(config, claims):
    """Whether a config's sizes are those of the tensors that a file claims to hold."""
    shapes = {name: shape for name, (_, shape) in claims.items()}
    halves = 2 if config.activation == "swiglu" else 1
    layers = {name.split(".")[1] for name in shapes if name.startswith("blocks.")}
    scaled = [name for name, (kind, _) in claims.items() if kind == "I8"]
    return (
        shapes["embedding.weight"] == (config.vocab_size, config.d_model)
        and shapes["blocks.0.feed_forward.up.weight"] == (halves * config.d_ff, config.d_model)
        and len(layers) == config.n_layers
        and ("head.weight" in shapes) != config.tie_embeddings
        and all(shapes[f"{name}.scale"] == scales_shape(*shapes[name]) for name in scaled)
        and sum(math.prod(shape) for shape in shapes.values()) <= MOST_NUMBERS
    )


def scales_shape(rows, columns):
    return rows, columns // GROUP


def check_bounds(config):
    """A ValueError for a model that is larger than the course trains and reads."""
    cached = 2 * config.n_layers * config.context_length * config.d_model
    if config.n_layers > MOST_LAYERS:
        raise ValueError(
            _(
                "n_layers must be at most {most_layers}, not {n_layers:,}",
                most_layers=MOST_LAYERS,
                n_layers=config.n_layers,
            )
        )
    if matrix_weights(config) > MOST_NUMBERS:
        raise ValueError(
            _("a model must have at most {most_numbers:,} weights", most_numbers=MOST_NUMBERS)
        )
    if cached > MOST_NUMBERS:
        raise ValueError(
            _(
                "the keys and values of one text must be at most {most_numbers:,} numbers, not "
                "{cached:,} (2 x layers x context x width)",
                most_numbers=MOST_NUMBERS,
                cached=cached,
            )
        )


def matrix_weights(config):
    """How many weights a model's matrices have, the head's too; the other weights are few."""
    matrices = 3 if config.activation == "swiglu" else 2
    a_block = 4 * config.d_model**2 + matrices * config.d_model * config.d_ff
    return config.n_layers * a_block + config.vocab_size * config.d_model
