"""Timings that can be repeated: training and writing, beside Hugging Face and the machine's limits.

Every contender runs in turn, round after round, so that all meet the same moods of the machine;
medians count.
"""

import contextlib
import json
import sys
from dataclasses import replace
from functools import partial

import pandas as pd
import torch
from torch.utils.benchmark import Timer

from course_utils import files
from course_utils.bench import engines, peers
from course_utils.figures.performance import in_language
from course_utils.generation import kernel, writer
from course_utils.generation.speculative import CountingDraft
from course_utils.lessons import sampling
from course_utils.lessons.data import CharTokenizer, split
from course_utils.lessons.model import GPTConfig
from course_utils.messages import N_, _
from course_utils.training import checkpoints, engine, recipes, runs, trainer
from course_utils.training.turns import in_turn

ROUNDS = 5
# What makes a GPU fast, one piece more each time, from none to all.
TRICKS = [engine.PIECES[:n] for n in range(len(engine.PIECES) + 1)]
SCALING = {  # what is changed, one at a time, to see how the time of a step grows
    "n_layers": (1, 2, 4, 8),
    "d_model": (64, 128, 256, 512),
    "context_length": (32, 64, 128, 256, 512),
    "batch_size": (1, 2, 4, 8, 16, 32),
}
WORDS = (  # of a result, as it is printed; its file has them in English
    N_("kind"),
    N_("contender"),
    N_("name"),
    N_("texts"),
    N_("median_ms"),
    N_("low_ms"),
    N_("high_ms"),
    N_("low"),
    N_("high"),
    N_("characters_per_s"),
    N_("share_of_matrix_rate"),
    N_("matrix_products_flops"),
    N_("memory_bytes_per_s"),
    N_("operations_per_s"),
    N_("device"),
    N_("threads"),
    N_("cores"),
    N_("system"),
    N_("code"),
    N_("date"),
    N_("command"),
)


def time_in_turn(contenders, seconds=0.2):
    """Median seconds of a call of each, and the quarter and three-quarter points over ROUNDS turns.

    contenders: name -> function, or None to leave it out. The first call of each warms up and does
    not count. -> name -> (low, median, high)
    """
    contenders = {name: function for name, function in contenders.items() if function}
    threads = torch.get_num_threads()
    times = {name: [] for name in contenders}
    for number, name, function in in_turn(contenders, ROUNDS):
        if number == 0:
            function()
            continue
        timer = Timer("function()", globals={"function": function}, num_threads=threads)
        times[name].append(timer.blocked_autorange(min_run_time=seconds).median)
    return {name: tuple(pd.Series(s).quantile([0.25, 0.5, 0.75])) for name, s in times.items()}


def limits(device):
    """What the machine can do at best, a second.

    -> {"matrix_products_flops", "memory_bytes_per_s", "operations_per_s": small ones in a row}
    """
    on_gpu = device.type == "cuda"
    n = 8192 if on_gpu else 1024
    dtype = torch.bfloat16 if on_gpu else torch.float32
    square = torch.randn(n, n, device=device, dtype=dtype)
    long = torch.randn(2**28 if on_gpu else 2**25, device=device)
    target = torch.empty_like(long)
    small = torch.zeros(1, device=device)

    def launches():
        for _again in range(1000):
            small.add_(1)

    seconds = time_in_turn(
        {
            "multiply": lambda: square @ square,
            "copy": lambda: target.copy_(long),
            "launch": launches,
        }
    )
    return {
        "matrix_products_flops": 2 * n**3 / seconds["multiply"][1],
        "memory_bytes_per_s": 2 * long.nbytes / seconds["copy"][1],
        "operations_per_s": 1000 / seconds["launch"][1],
    }


def training_flops(config, batch_size):
    """Floating-point operations of a step: 6 a weight and token, and attention's causal half."""
    tokens = batch_size * config.context_length
    attention = 6 * config.n_layers * config.context_length * config.d_model
    return tokens * (6 * checkpoints.matrix_weights(config) + attention)


def bench_train(model_config, config, text, device, best):
    """Step times: the plain loop, each piece of the engine, Hugging Face. -> rows of `step_row`"""
    ids = encoded(text, device)

    def new_model():
        return trainer.new_model(model_config, config, device).train()

    contenders = {"plain loop": engine.Engine(new_model(), ids, config).step}
    for pieces in TRICKS if device.type == "cuda" else [()]:
        one = engine.make_engine(new_model(), ids, config, pieces)
        contenders[f"engine: {one.regime}"] = one.step
    contenders["Hugging Face GPT-2"] = peers.training(model_config, config, ids)
    return [
        step_row("contender", name, model_config, config, seconds, best)
        for name, seconds in time_in_turn(contenders).items()
    ]


def bench_scaling(model_config, config, text, device, best):
    """How a step's time grows with each setting of SCALING. -> rows of `step_row`"""
    ids = encoded(text, device)
    small = replace(model_config, n_layers=4, d_model=128, n_heads=2, d_ff=512, context_length=128)
    config = replace(config, batch_size=8)
    pieces = [piece for piece in engine.PIECES if piece != "compiled"]  # minutes for each shape
    rows = []
    for setting, values in SCALING.items():
        for value in values:
            changed, batch = small, config
            if setting == "batch_size":
                batch = replace(config, batch_size=value)
            elif setting == "d_model":
                changed = replace(small, d_model=value, d_ff=4 * value, n_heads=max(1, value // 64))
            else:
                changed = replace(small, **{setting: value})
            model = trainer.new_model(changed, batch, device).train()
            one = engine.make_engine(model, ids, batch, pieces)
            seconds = time_in_turn({"step": one.step}, 0.1)["step"]
            rows.append(step_row(setting, str(value), changed, batch, seconds, best))
    return rows


def step_row(kind, name, model_config, config, seconds, best):
    """A row about training steps, from (low, median, high) seconds of one.

    kind: "contender", or the setting that was changed; name: whose step, or the setting's value.
    median_ms, low_ms, high_ms: of a step. characters_per_s. share_of_matrix_rate: of the step's
    operations a second in what the machine multiplies at best.
    """
    low, median, high = seconds
    flops = training_flops(model_config, config.batch_size)
    return {
        "kind": kind,
        "name": name,
        "median_ms": 1e3 * median,
        "low_ms": 1e3 * low,
        "high_ms": 1e3 * high,
        "characters_per_s": config.batch_size * model_config.context_length / median,
        "share_of_matrix_rate": flops / median / best["matrix_products_flops"],
    }


def bench_generate(model_config, config, text, device, best):
    """Writing: without a cache, lesson 6's, ours, others' engines; one text and many at a time.

    Each begins with one character and fills the context. Where a model of this shape and alphabet
    is published, it is that model: a draft is of use only to who has learnt something.
    -> rows: kind, name, texts at a time; characters_per_s of all together, low and high;
    median_ms of a character in each text.
    """
    ids = encoded(text, device)
    n = model_config.context_length - 1
    trained = published_model(model_config, text)
    model = trained or trainer.new_model(model_config, config, device)
    model = model.to(device).eval()
    learnt = trained and split(ids)[0]
    rows = []
    for texts in (1, 256, 1024) if device.type == "cuda" else (1, 16):
        tokens = ids[:texts, None]
        with contextlib.ExitStack() as opened:
            contenders = writers(model, tokens, n)
            if texts == 1:
                contenders |= writers_of_one(model, tokens, n, learnt, opened)
            times = time_in_turn(contenders, 0.1)
        for name, (low, median, high) in times.items():
            rows.append(
                {
                    "kind": "contender",
                    "name": name,
                    "texts": texts,
                    "characters_per_s": texts * n / median,
                    "low": texts * n / high,
                    "high": texts * n / low,
                    "median_ms": 1e3 * median / n,
                }
            )
    return rows


def published_model(model_config, text):
    """The published model of this shape that has learnt this text's alphabet, else None."""
    for record in runs.load_all(files.PUBLISHED):
        if GPTConfig(**record.model) == model_config and record.checkpoint.is_file():
            model, tokenizer = checkpoints.load_model(record.checkpoint)
            if tokenizer.alphabet == CharTokenizer(text).alphabet:
                return model
    return None


def writers(model, tokens, n):
    """Who continues tokens (B, 1) by n characters: name -> function, or None for no such peer."""
    texts = len(tokens)
    dtype = torch.bfloat16 if tokens.is_cuda and texts > 1 else torch.float32
    ready = writer.make_decoder(model, texts, dtype)
    contenders = {f"ours, {str(dtype).removeprefix('torch.')}": lambda: fill(ready, tokens, n)}
    if texts <= 256:
        contenders["Hugging Face GPT-2"] = peers.writing(model.config, tokens, n)
    return contenders


def writers_of_one(model, tokens, n, learnt, opened):
    """Who else continues one text, as `writers`.

    On a GPU the one kernel; on a CPU the draft, and engines that are not PyTorch. learnt: the ids
    that the model has learnt, or None. opened: an ExitStack, which ends their processes.
    """
    contenders = {
        "without a cache": lambda: generate_plainly(model, tokens, n),
        "lesson 6": lambda: sampling.generate(model, tokens, n),
    }
    if tokens.is_cuda:
        if why := kernel.why_not(model):
            print(_("One kernel does not write this: {why}.", why=why), file=sys.stderr)
            return contenders
        one = kernel.KernelDecoder(model)
        return contenders | {"ours, one kernel, bfloat16": lambda: fill(one, tokens, n)}

    first = tokens.item()
    contenders["NumPy"] = engines.in_numpy(model, first, n)
    if learnt is not None:
        draft = CountingDraft(learnt, model.config.vocab_size)
        guessing = writer.make_decoder(model, draft=draft)
        contenders["ours, float32, speculative"] = lambda: fill(guessing, tokens, n)
    if engines.Page.is_there:
        page = opened.enter_context(contextlib.closing(engines.Page(model)))
        contenders["the page's WebAssembly"] = lambda: page.write(first, n)
    else:
        print(_("The page's WebAssembly takes no part: Node is not installed."), file=sys.stderr)
    return contenders


def fill(decoder, tokens, n):
    """n characters by a decoder that is ready; the last is waited for."""
    first = sampling.draw(decoder.read(tokens))
    return decoder.write(first, n - 1).sum().item()


@torch.no_grad()
def generate_plainly(model, tokens, n):
    """What generation costs when every character reads the whole text again."""
    for _again in range(n):
        tokens = torch.cat([tokens, sampling.draw(model(tokens)[:, -1])], dim=1)
    return tokens


BENCHES = {"train": bench_train, "generate": bench_generate, "scaling": bench_scaling}


def encoded(text, device):
    return torch.tensor(CharTokenizer(text).encode(text)).to(device)


def benchmark(what, preset, text, device):
    """One benchmark with all that its numbers depend on. -> a dict for JSON

    what: a name in BENCHES. preset: a name in recipes.RECIPES.
    """
    settings, config = recipes.named_recipe(preset)
    model_config = GPTConfig(**{"vocab_size": CharTokenizer(text).vocab_size, **settings})
    config = replace(config, steps=100_000, seed=0)
    best = limits(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    rows = BENCHES[what](model_config, config, text, device, best)
    return {
        "what": what,
        "preset": preset,
        "rows": rows,
        "limits": best,
        "peak_memory_mb": trainer.peak_memory_mb(device),
        "environment": runs.environment(device),
    }


def in_words(result):
    """A benchmark as text: its table, the limits, and what it ran on."""
    rows = pd.DataFrame(result["rows"])
    rows["kind"] = rows["kind"].map(_)
    rows["name"] = rows["name"].map(partial(in_language, say=_))
    with pd.option_context("display.unicode.east_asian_width", True):
        rows = rows.rename(columns=_)
        table = rows.to_string(index=False, float_format="{:.4g}".format)
    limits = [f"{_(name)}{_(': ')}{value:.4g}" for name, value in result["limits"].items()]
    where = _(", ").join(f"{_(name)} {value}" for name, value in result["environment"].items())
    return "\n".join([table, *limits, where])


def save(result, path):
    files.write(path, json.dumps(result, indent=1).encode())
