"""The experiments as data: recipes, arms and seeds; and running them, one process a run or one after the other."""

import concurrent.futures
import contextlib
import itertools
import math
import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass, field, replace

import pandas as pd
import torch
from tqdm import tqdm

from course_utils import runs
from course_utils.lessons.model import GPTConfig
from course_utils.lessons.train import TrainConfig
from course_utils.statistics import compare, mean_interval

LAPTOP_MODEL = {
    "context_length": 128, "n_layers": 4, "n_heads": 2, "d_model": 128, "d_ff": 512, "dropout": 0.0,
    "position": "rope", "qk_norm": True,
}  # fmt: skip
LONG_MODEL = LAPTOP_MODEL | {"context_length": 512, "n_heads": 3, "d_model": 192, "d_ff": 768}
MODERN_MODEL = {"context_length": 1024, "n_heads": 4, "position": "rope", "qk_norm": True, "dropout": 0.2}
MUON = {"optimizer": "muon", "learning_rate": 3e-3, "weight_decay": 0.1, "decay": 0.5, "patience": 0}
LAPTOP = MUON | {"warmup_steps": 20, "decay": 0.7, "muon_momentum": 0.9, "muon_iterations": 3}
RECIPES = {
    # The assignment's model and training, to the letter. An evaluation is the exact loss on the whole validation
    # split; one comes after each epoch, which is as many characters as the training split holds.
    "baseline": ({}, TrainConfig()),
    # nanoGPT's two models for this text, for a GPU and for a CPU, but for the cosine in its schedule: to compare with.
    "nanogpt": ({"n_heads": 6, "d_model": 384, "d_ff": 1536, "dropout": 0.2}, TrainConfig(
        steps=5000, batch_size=64, learning_rate=1e-3, weight_decay=0.1, warmup_steps=100, decay=0.98,
        evaluate_every=250, patience=0)),
    "nanogpt-cpu": ({"context_length": 64, "n_layers": 4, "n_heads": 4, "d_model": 128, "d_ff": 512, "dropout": 0.0},
        TrainConfig(steps=2000, batch_size=12, learning_rate=1e-3, weight_decay=0.1, warmup_steps=100, decay=0.95,
        evaluate_every=500, patience=0)),
    # What two cores learn most with in a minute and a half, and in ten minutes.
    "laptop": (LAPTOP_MODEL, TrainConfig(**LAPTOP | {
        "steps": 1255, "batch_size": 8, "learning_rate": 8e-3, "weight_decay": 0.03, "evaluate_every": 1255})),
    "laptop-long": (LONG_MODEL, TrainConfig(**LAPTOP | {
        "steps": 1920, "batch_size": 4, "learning_rate": 5e-3, "evaluate_every": 640})),
    # For a GPU: past nanoGPT's 1.4697 in seconds; then the lowest loss at the baseline's size, and at nanoGPT's.
    "sprint": (LONG_MODEL | {"context_length": 1024}, TrainConfig(**MUON, steps=900, batch_size=8, warmup_steps=20,
        evaluate_every=900, muon_learning_rate=0.03, muon_iterations=3)),
    "modern": (MODERN_MODEL, TrainConfig(
        **MUON, steps=2400, batch_size=8, warmup_steps=50, evaluate_every=800)),
    "record": (MODERN_MODEL | {"d_model": 384, "d_ff": 1536, "n_heads": 6, "dropout": 0.3}, TrainConfig(
        **MUON, steps=2400, batch_size=8, warmup_steps=50, evaluate_every=800, muon_learning_rate=0.03)),
    # What wrote the practice text, at nanoGPT's size.
    "modern-large": (MODERN_MODEL | {"context_length": 256, "d_model": 384, "d_ff": 1536, "n_heads": 6, "dropout": 0.3},
        TrainConfig(
        **MUON, steps=2000, batch_size=64, warmup_steps=50, evaluate_every=250, muon_learning_rate=0.04)),
    # Seconds: to see that everything runs.
    "smoke": (LAPTOP_MODEL | {"context_length": 32, "d_model": 16, "d_ff": 32}, TrainConfig(
        **MUON, steps=20, batch_size=8, warmup_steps=5, evaluate_every=10)),
}  # fmt: skip
DEPTHS = {f"{n} layers": {"n_layers": n} for n in (2, 4, 6)}


def named_recipe(name):
    """-> (settings of GPTConfig, TrainConfig)"""
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r} (choose from {', '.join(RECIPES)})")
    return RECIPES[name]


@dataclass(frozen=True)
class Study:
    """One question: arms that differ from one recipe in a few settings, over paired seeds."""

    name: str
    question: str
    arms: dict = field(default_factory=dict)  # arm -> settings of GPTConfig or TrainConfig that it changes

    def specs(self, recipe, seeds, corpus):
        """All runs, seed by seed. corpus: a corpus.Corpus. -> list of runs.RunSpec"""
        model, train = named_recipe(recipe)
        specs = []
        for seed in seeds:
            for arm, changes in self.arms.items():
                of_model = {k: v for k, v in changes.items() if k in GPTConfig.__dataclass_fields__}
                of_train = {k: v for k, v in changes.items() if k in TrainConfig.__dataclass_fields__}
                if unknown := changes.keys() - of_model.keys() - of_train.keys():
                    raise ValueError(f"arm {arm!r} changes {', '.join(unknown)}, which is no setting")
                config = GPTConfig(**{"vocab_size": len(set(corpus.text)), **model, **of_model})
                settings = replace(train, seed=seed, **of_train)
                specs.append(runs.RunSpec(self.name, recipe, arm, config, settings, corpus.sha256))
        return specs


STUDIES = {
    study.name: study
    for study in (
        Study("depth", "What do 2, 4 and 6 layers buy?", DEPTHS),
        Study("position", "How should the model know where a character stands?",
              {kind: {"position": kind} for kind in ("none", "learned", "sinusoidal", "rope")}),
        Study("activation", "Which bend in the feed-forward layer?",
              {kind: {"activation": kind} for kind in ("gelu", "relu", "relu2", "swiglu")}),
        Study("norm", "Which normalisation, and where?",
              {f"{norm} {place}": {"norm": norm, "norm_placement": place}
               for norm in ("layernorm", "rmsnorm") for place in ("pre", "post")}),
        Study("heads", "How many heads?", {f"{n} heads": {"n_heads": n} for n in (1, 2, 4, 8)}),
        Study("residual", "What does the residual stream do?",
              {"with residuals": {}, "without residuals": {"residual": False}}),
        Study("optimizer", "AdamW or Muon?", {kind: {"optimizer": kind} for kind in ("adamw", "muon")}),
    )
}  # fmt: skip


def run(specs, corpus, folder, device="cpu", workers=1, on_record=None, allow=None):
    """Run what is not yet in the folder. workers > 1: that many processes on the CPU, one a run.

    on_record(record): called as each run ends. allow: as engine.make_engine's. -> list of RunRecord, as specs
    """
    found = {spec: runs.find(spec, [folder]) for spec in specs}
    missing = sorted((s for s in specs if not found[s]), key=lambda s: -s.model.n_layers)  # long ones first
    with tqdm(total=sum(s.train.steps for s in missing), unit="step", disable=None if missing else True) as bar:
        report = on_record or (lambda record: None)
        if workers == 1:
            for spec in missing:
                bar.set_description(f"{spec.arm}, seed {spec.train.seed}")
                found[spec] = runs.execute(spec, corpus, folder, device, bar.update, allow)
                report(found[spec])
        else:
            with pool(workers) as (executor, steps_done):
                futures = {executor.submit(_work, spec, corpus, folder): spec for spec in missing}
                waiting = set(futures)
                while waiting:
                    done, waiting = concurrent.futures.wait(waiting, timeout=0.5, return_when="FIRST_COMPLETED")
                    bar.update(steps_done.value - bar.n)
                    for future in done:
                        found[futures[future]] = future.result()
                        report(future.result())
    return [found[spec] for spec in specs]


@contextlib.contextmanager
def pool(workers):
    """A pool of fresh processes that share the cores, and the number of steps that they have done."""
    context = multiprocessing.get_context("spawn")
    steps_done = context.Value("q", 0)
    threads = max(1, torch.get_num_threads() // workers)
    executor = concurrent.futures.ProcessPoolExecutor(
        workers, context, _begin_worker, (threads, steps_done), max_tasks_per_child=1
    )
    try:
        yield executor, steps_done
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    executor.shutdown()


def _begin_worker(threads, steps_done):
    global _steps_done
    _steps_done = steps_done
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)  # the parent was killed: nobody waits for this run


def _work(spec, corpus, folder):
    def count(n):
        with _steps_done.get_lock():
            _steps_done.value += n

    return runs.execute(spec, corpus, folder, on_step=count)


def curves(records):
    """Every report of every run, a row each; validation_loss is NaN where none was measured."""
    return pd.DataFrame([{"arm": r.arm, "seed": r.seed, **row} for r in records for row in r.history])


def final_table(records):
    """One row a run: what is in tables/final_results.csv."""
    rows = [
        {
            "arm": r.arm, "seed": r.seed, "n_layers": r.model["n_layers"], "parameters": r.parameters,
            "best_step": r.best_step, "steps": r.history[-1]["step"], "validation_loss": r.validation_loss,
            "training_loss": r.training_loss, "elapsed_s": r.elapsed_s, "characters_per_s": r.characters_per_s,
            "peak_memory_mb": r.peak_memory_mb, "device": r.environment["device"], "corpus": r.corpus["name"],
            "record": f"logs/{r.name}.json",
        }
        for r in records
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table.insert(7, "perplexity", table["validation_loss"].map(math.exp))
    return table


def arm_table(final):
    """One row an arm, means over its seeds: what is in tables/layer_ablation_results.csv."""
    rows = []
    for arm, group in final.groupby("arm", sort=False):
        low, mean, high = mean_interval(group["validation_loss"])
        row = {"arm": arm, "n_layers": group["n_layers"].iloc[0], "parameters": group["parameters"].iloc[0]}
        row |= {"seeds": len(group), "steps": group["steps"].max(), "validation_loss": mean}
        row |= {"loss_low": low, "loss_high": high, "perplexity": group["perplexity"].mean()}
        columns = ["training_loss", "elapsed_s", "peak_memory_mb", "characters_per_s"]
        rows.append(row | group[columns].mean().to_dict() | {"corpus": group["corpus"].iloc[0]})
    return pd.DataFrame(rows)


def comparisons(records):
    """Each arm against the one before it, over paired seeds. -> list of statistics.Comparison"""
    losses = {}
    for r in records:
        losses.setdefault(r.arm, {})[r.seed] = r.validation_loss
    arms = list(losses)
    return [compare(b, losses[b], a, losses[a]) for a, b in itertools.pairwise(arms)]


def by_study(records):
    """Records that may be compared with each other: {"depth, recipe laptop, Tiny Shakespeare": records, …}."""
    groups = {}
    for r in records:
        groups.setdefault(f"{r.study}, recipe {r.recipe}, {r.corpus['name']}", []).append(r)
    return groups
