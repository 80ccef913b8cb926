"""What was found, as tables: one row a report, a run, an arm; and each arm against the one before."""

import itertools
import math

import pandas as pd

from course_utils.research.effects import losses_of
from course_utils.research.statistics import compare, mean_interval


def curves(records):
    """Every report of every run, a row each; validation_loss is NaN where none was measured."""
    return pd.DataFrame(
        [{"arm": r.arm, "seed": r.seed, **row} for r in records for row in r.history]
    )


def timed(record):
    """Whether a run's times say something: several workers share a GPU, and each is as slow as all of them together."""
    return "cuda" not in record.regime or "--workers" not in record.environment["command"]


def final_table(records):
    """One row a run: what is in tables/final_results.csv. Where runs shared a GPU, their times are left out."""
    rows = [
        {
            "arm": r.arm, "seed": r.seed, "n_layers": r.model["n_layers"], "parameters": r.parameters,
            "best_step": r.best_step, "steps": r.history[-1]["step"], "validation_loss": r.validation_loss,
            "training_loss": r.training_loss, "elapsed_s": r.elapsed_s if timed(r) else math.nan,
            "characters_per_s": r.characters_per_s if timed(r) else math.nan,
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
        row = {
            "arm": arm,
            "n_layers": group["n_layers"].iloc[0],
            "parameters": group["parameters"].iloc[0],
        }
        row |= {"seeds": len(group), "steps": group["steps"].max(), "validation_loss": mean}
        row |= {"loss_low": low, "loss_high": high, "perplexity": group["perplexity"].mean()}
        columns = ["training_loss", "elapsed_s", "peak_memory_mb", "characters_per_s"]
        rows.append(row | group[columns].mean().to_dict() | {"corpus": group["corpus"].iloc[0]})
    return pd.DataFrame(rows)


def comparisons(records, measure="validation_loss"):
    """Each arm against the one before it, over paired seeds. -> list of statistics.Comparison"""
    losses = losses_of(records, measure)
    arms = list(losses)
    return [compare(b, losses[b], a, losses[a]) for a, b in itertools.pairwise(arms)]


def by_study(records):
    """Records that may be compared with each other: {"depth, recipe laptop, Tiny Shakespeare": records, …}."""
    groups = {}
    for r in records:
        groups.setdefault(f"{r.study}, recipe {r.recipe}, {r.corpus['name']}", []).append(r)
    return groups
