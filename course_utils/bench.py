"""Timings that can be repeated: training and writing, beside Hugging Face's GPT-2 and the limits of the machine.

Every contender runs in turn, round after round, so that all meet the same moods of the machine; medians count.
"""

import json
from dataclasses import replace

import pandas as pd
import torch
from torch.utils.benchmark import Timer

from course_utils import decoder, engine, peers, runs, studies, trainer
from course_utils.lessons import sampling
from course_utils.lessons.data import CharTokenizer, get_batch
from course_utils.lessons.model import GPT, GPTConfig
from course_utils.lessons.train import learning_rate_at, make_optimizers, training_step

ROUNDS = 5
TRICKS = ((), ("bf16",), ("bf16", "compiled"), ("bf16", "compiled", "CUDA graph"))  # one after the other
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
    return {name: tuple(pd.Series(found).quantile([0.25, 0.5, 0.75])) for name, found in times.items()}


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

    found = time_in_turn({"multiply": lambda: square @ square, "copy": lambda: target.copy_(long), "launch": launches})
    return {
        "matrix_products_flops": 2 * n**3 / found["multiply"][1],
        "memory_bytes_per_s": 2 * long.nbytes / found["copy"][1],
        "operations_per_s": 1000 / found["launch"][1],
    }


def training_flops(config, batch_size):
    """Floating-point operations of a step: 6 a weight and token, and the causal half of attention."""
    c, tokens = config, batch_size * config.context_length
    halves = 3 if c.activation == "swiglu" else 2
    weights = c.n_layers * (4 * c.d_model**2 + halves * c.d_model * c.d_ff) + c.vocab_size * c.d_model
    return tokens * (6 * weights + 6 * c.n_layers * c.context_length * c.d_model)


def train(preset, ids, device):
    """Step times of a recipe: the plain loop, each piece of the engine, Hugging Face.

    preset: a name in studies.RECIPES. ids: (N,) int64. -> (DataFrame, a row a measurement; limits())
    """
    model_settings, config = studies.named_recipe(preset)
    model_config = GPTConfig(**{"vocab_size": int(ids.max()) + 1, **model_settings})
    config, ids, best = replace(config, steps=100_000, seed=0), ids.to(device), limits(device)
    contenders = {"plain loop": plain_loop(model_config, config, ids, device)}
    for pieces in TRICKS if device.type == "cuda" else [()]:
        steps = engine.make_engine(trainer.new_model(model_config, config, device).train(), ids, config, pieces)
        contenders[f"engine: {steps.regime}"] = steps.step
    contenders["Hugging Face GPT-2"] = peers.training(model_config, config, ids)
    rows = [
        describe("contender", name, model_config, config, found, best)
        for name, found in time_in_turn(contenders).items()
    ]
    return pd.DataFrame(rows), best


def scaling(preset, ids, device):
    """How the time of a step grows with each setting of SCALING, from a small model. -> (DataFrame, limits)"""
    settings, config = studies.named_recipe(preset)
    model_config = GPTConfig(**{"vocab_size": int(ids.max()) + 1, **settings})
    ids, best, rows = ids.to(device), limits(device), []
    small = replace(model_config, n_layers=4, d_model=128, n_heads=2, d_ff=512, context_length=128)
    batch = replace(config, batch_size=8, steps=100_000)
    for setting, values in SCALING.items():
        for value in values:
            changed, schedule = small, batch
            if setting == "batch_size":
                schedule = replace(batch, batch_size=value)
            elif setting == "d_model":
                changed = replace(small, d_model=value, d_ff=4 * value, n_heads=max(1, value // 64))
            else:
                changed = replace(small, **{setting: value})
            model = trainer.new_model(changed, schedule, device).train()
            pieces = [piece for piece in engine.PIECES if piece != "compiled"]  # one compilation a shape: minutes
            steps = engine.make_engine(model, ids, schedule, pieces)
            found = time_in_turn({"step": steps.step}, 0.1)["step"]
            rows.append(describe(setting, str(value), changed, schedule, found, best))
    return pd.DataFrame(rows), best


def describe(kind, name, model_config, config, found, best):
    low, median, high = found
    flops = training_flops(model_config, config.batch_size)
    return {
        "kind": kind, "name": name, "median_ms": 1e3 * median, "low_ms": 1e3 * low, "high_ms": 1e3 * high,
        "characters_per_s": config.batch_size * model_config.context_length / median,
        "share_of_matrix_rate": flops / median / best["matrix_products_flops"],
    }  # fmt: skip


def plain_loop(model_config, config, ids, device):
    """Lesson 4's loop, a step a call."""
    model = trainer.new_model(model_config, config, device).train()
    optimizers, windows = make_optimizers(model, config), torch.Generator().manual_seed(config.seed)
    rate = learning_rate_at(config.steps // 2, config)

    def step():
        tokens, targets = get_batch(ids, config.batch_size, model_config.context_length, windows)
        training_step(model, optimizers, tokens, targets, rate, config.clip_norm)

    return step


def generate(preset, ids, device):
    """Characters a second: without a cache, lesson 6's, ours, Hugging Face; one text and many. -> (DataFrame, limits)

    Each begins with one character and fills the context. preset: a name in studies.RECIPES.
    """
    model_settings, _ = studies.named_recipe(preset)
    config = GPTConfig(**{"vocab_size": int(ids.max()) + 1, **model_settings})
    torch.manual_seed(0)
    model, best = GPT(config).to(device).eval(), limits(device)
    n, rows = config.context_length - 1, []
    for texts in (1, 256, 1024) if device.type == "cuda" else (1, 16):
        tokens = ids[:texts, None].to(device)
        dtype = torch.bfloat16 if device.type == "cuda" and texts > 1 else torch.float32
        writer = decoder.make_decoder(model, texts, dtype)
        contenders = {f"ours, {str(dtype).removeprefix('torch.')}": lambda w=writer, t=tokens: fill(w, t, n)}
        if texts == 1:
            contenders["without a cache"] = lambda t=tokens: generate_plainly(model, t, n)
            contenders["lesson 6"] = lambda t=tokens: sampling.generate(model, t, n)
        if texts <= 256:
            contenders["Hugging Face GPT-2"] = peers.writing(config, tokens, n)
        for name, (low, median, high) in time_in_turn(contenders, 0.1).items():
            rows.append(
                {"kind": "contender", "name": name, "texts": texts, "characters_per_s": texts * n / median,
                 "low": texts * n / high, "high": texts * n / low, "median_ms": 1e3 * median / n}
            )  # fmt: skip
    return pd.DataFrame(rows), best


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
    """One benchmark with all that its numbers depend on. what: "train", "generate" or "scaling". -> a dict for JSON"""
    ids = torch.tensor(CharTokenizer(text).encode(text))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    table, best = {"train": train, "generate": generate, "scaling": scaling}[what](preset, ids, device)
    return {
        "what": what, "preset": preset, "rows": table.to_dict("records"), "limits": best,
        "peak_memory_mb": trainer.peak_memory_mb(device), "environment": runs.environment(device),
    }  # fmt: skip


def in_words(found):
    """A benchmark as text: its table, the limits, and what it ran on."""
    lines = [pd.DataFrame(found["rows"]).to_string(index=False, float_format="{:.4g}".format)]
    lines += [f"{name}: {value:.4g}" for name, value in found["limits"].items()]
    return "\n".join([*lines, ", ".join(f"{name} {value}" for name, value in found["environment"].items())])


def save(found, path):
    runs.write(path, json.dumps(found, indent=1).encode())
