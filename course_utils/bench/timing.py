"""Timings that can be repeated: training and writing, beside Hugging Face's GPT-2 and the limits of the machine.

Every contender runs in turn, round after round, so that all meet the same moods of the machine; medians count.
"""

import json
from dataclasses import replace

import pandas as pd
import torch
from torch.utils.benchmark import Timer

from course_utils import files
from course_utils.bench import peers
from course_utils.generation import decoder
from course_utils.lessons import sampling
from course_utils.lessons.data import CharTokenizer
from course_utils.lessons.model import GPTConfig
from course_utils.training import engine, recipes, runs, trainer

ROUNDS = 5
TRICKS = (
    (),
    ("bf16",),
    ("bf16", "compiled"),
    ("bf16", "compiled", "CUDA graph"),
)  # one after the other
SCALING = {  # what is changed, one at a time, to see how the time of a step grows
    "n_layers": (1, 2, 4, 8),
    "d_model": (64, 128, 256, 512),
    "context_length": (32, 64, 128, 256, 512),
    "batch_size": (1, 2, 4, 8, 16, 32),
}


def time_in_turn(contenders, seconds=0.2):
    """Median seconds of a call of each, and the quarter and three-quarter points over ROUNDS turns.

    contenders: name -> function, or None to leave it out. The first call of each warms up and does not count.
    -> name -> (low, median, high)
    """
    contenders = {name: function for name, function in contenders.items() if function}
    threads, times = torch.get_num_threads(), {name: [] for name in contenders}
    for function in contenders.values():
        function()
    for _ in range(ROUNDS):
        for name, function in contenders.items():
            timer = Timer("function()", globals={"function": function}, num_threads=threads)
            times[name].append(timer.blocked_autorange(min_run_time=seconds).median)
    return {
        name: tuple(pd.Series(found).quantile([0.25, 0.5, 0.75])) for name, found in times.items()
    }


def limits(device):
    """What the machine can do at best: multiplications, memory traffic, and how fast small operations follow."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    n = 8192 if device.type == "cuda" else 1024
    square = torch.randn(n, n, device=device, dtype=dtype)
    long = torch.randn(2**28 if device.type == "cuda" else 2**25, device=device)
    target, small = torch.empty_like(long), torch.zeros(1, device=device)

    def launches():
        for _ in range(1000):
            small.add_(1)

    found = time_in_turn(
        {
            "multiply": lambda: square @ square,
            "copy": lambda: target.copy_(long),
            "launch": launches,
        }
    )
    return {
        "matrix_products_flops": 2 * n**3 / found["multiply"][1],
        "memory_bytes_per_s": 2 * long.nbytes / found["copy"][1],
        "operations_per_s": 1000 / found["launch"][1],
    }


def training_flops(config, batch_size):
    """Floating-point operations of a step: 6 a weight and token, and the causal half of attention."""
    c, tokens = config, batch_size * config.context_length
    halves = 3 if c.activation == "swiglu" else 2
    weights = (
        c.n_layers * (4 * c.d_model**2 + halves * c.d_model * c.d_ff) + c.vocab_size * c.d_model
    )
    return tokens * (6 * weights + 6 * c.n_layers * c.context_length * c.d_model)


def train(model_config, config, ids, best):
    """Step times: the plain loop, each piece of the engine, Hugging Face. -> a row a measurement"""
    device = ids.device
    model = trainer.new_model(model_config, config, device).train()
    contenders = {"plain loop": engine.Engine(model, ids, config).step}
    for pieces in TRICKS if device.type == "cuda" else [()]:
        steps = engine.make_engine(
            trainer.new_model(model_config, config, device).train(), ids, config, pieces
        )
        contenders[f"engine: {steps.regime}"] = steps.step
    contenders["Hugging Face GPT-2"] = peers.training(model_config, config, ids)
    return [
        describe("contender", name, model_config, config, found, best)
        for name, found in time_in_turn(contenders).items()
    ]


def scaling(model_config, config, ids, best):
    """How the time of a step grows with each setting of SCALING, from a small model. -> a row a measurement"""
    small = replace(model_config, n_layers=4, d_model=128, n_heads=2, d_ff=512, context_length=128)
    batch, rows = replace(config, batch_size=8), []
    for setting, values in SCALING.items():
        for value in values:
            changed, schedule = small, batch
            if setting == "batch_size":
                schedule = replace(batch, batch_size=value)
            elif setting == "d_model":
                changed = replace(small, d_model=value, d_ff=4 * value, n_heads=max(1, value // 64))
            else:
                changed = replace(small, **{setting: value})
            model = trainer.new_model(changed, schedule, ids.device).train()
            pieces = [
                piece for piece in engine.PIECES if piece != "compiled"
            ]  # one compilation a shape: minutes
            steps = engine.make_engine(model, ids, schedule, pieces)
            found = time_in_turn({"step": steps.step}, 0.1)["step"]
            rows.append(describe(setting, str(value), changed, schedule, found, best))
    return rows


def describe(kind, name, model_config, config, found, best):
    low, median, high = found
    flops = training_flops(model_config, config.batch_size)
    return {
        "kind": kind, "name": name, "median_ms": 1e3 * median, "low_ms": 1e3 * low, "high_ms": 1e3 * high,
        "characters_per_s": config.batch_size * model_config.context_length / median,
        "share_of_matrix_rate": flops / median / best["matrix_products_flops"],
    }  # fmt: skip


def generate(model_config, config, ids, best):
    """Characters a second: without a cache, lesson 6's, ours, Hugging Face; one text and many. -> rows

    Each begins with one character and fills the context.
    """
    device, n, rows = ids.device, model_config.context_length - 1, []
    model = trainer.new_model(model_config, config, device).eval()
    for texts in (1, 256, 1024) if device.type == "cuda" else (1, 16):
        tokens = ids[:texts, None]
        dtype = torch.bfloat16 if device.type == "cuda" and texts > 1 else torch.float32
        writer = decoder.make_decoder(model, texts, dtype)
        contenders = {
            f"ours, {str(dtype).removeprefix('torch.')}": lambda w=writer, t=tokens: fill(w, t, n)
        }
        if texts == 1:
            contenders["without a cache"] = lambda t=tokens: generate_plainly(model, t, n)
            contenders["lesson 6"] = lambda t=tokens: sampling.generate(model, t, n)
        if texts <= 256:
            contenders["Hugging Face GPT-2"] = peers.writing(model_config, tokens, n)
        for name, (low, median, high) in time_in_turn(contenders, 0.1).items():
            rows.append(
                {"kind": "contender", "name": name, "texts": texts, "characters_per_s": texts * n / median,
                 "low": texts * n / high, "high": texts * n / low, "median_ms": 1e3 * median / n}
            )  # fmt: skip
    return rows


def fill(writer, tokens, n):
    """n characters by a decoder that is ready; the last is waited for."""
    token = sampling.draw(writer.read(tokens))
    for _ in range(n - 1):
        token = writer.draw_next(token)
    return token.sum().item()


@torch.no_grad()
def generate_plainly(model, tokens, n):
    """What generation costs when every character reads the whole text again."""
    for _ in range(n):
        tokens = torch.cat([tokens, sampling.draw(model(tokens)[:, -1])], dim=1)
    return tokens


def run(what, preset, text, device):
    """One benchmark with all that its numbers depend on. -> a dict for JSON

    what: "train", "generate" or "scaling". preset: a name in recipes.RECIPES.
    """
    ids = torch.tensor(CharTokenizer(text).encode(text)).to(device)
    settings, config = recipes.named_recipe(preset)
    model_config = GPTConfig(**{"vocab_size": int(ids.max()) + 1, **settings})
    config, best = replace(config, steps=100_000, seed=0), limits(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    rows = {"train": train, "generate": generate, "scaling": scaling}[what](
        model_config, config, ids, best
    )
    return {
        "what": what, "preset": preset, "rows": rows, "limits": best,
        "peak_memory_mb": trainer.peak_memory_mb(device), "environment": runs.environment(device),
    }  # fmt: skip


def in_words(found):
    """A benchmark as text: its table, the limits, and what it ran on."""
    lines = [pd.DataFrame(found["rows"]).to_string(index=False, float_format="{:.4g}".format)]
    lines += [f"{name}: {value:.4g}" for name, value in found["limits"].items()]
    return "\n".join(
        [*lines, ", ".join(f"{name} {value}" for name, value in found["environment"].items())]
    )


def save(found, path):
    files.write(path, json.dumps(found, indent=1).encode())
