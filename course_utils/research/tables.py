"""What was found, as tables: one row a report, a run, an arm, a learning rate."""

import math

import pandas as pd

from course_utils.research.comparisons import losses_of, mean_interval
from course_utils.training.recipes import layers


def curves(records):
    """Every report of every run, a row each; validation_loss is NaN where none was measured."""
    return pd.DataFrame(
        [{"arm": r.arm, "seed": r.seed, **row} for r in records for row in r.history]
    )


def timed(record):
    """Whether a run's times say something: workers that share a GPU are each as slow as all."""
    return "cuda" not in record.regime or "--workers" not in record.environment["command"]


def final_table(records):
    """One row a run: what is in tables/final_results.csv. No times where runs shared a GPU."""
    losses_of(
        records, "validation_loss"
    )  # each arm and seed once, or no mean over them would be one
    table = pd.DataFrame([run_row(record) for record in records])
    table.insert(7, "perplexity", table["validation_loss"].map(math.exp))
    return table


def run_row(record):
    """What one run cost and reached."""
    row = {
        "arm": record.arm,
        "seed": record.seed,
        "n_layers": record.model["n_layers"],
        "parameters": record.parameters,
        "best_step": record.best_step,
        "steps": record.history[-1]["step"],
        "validation_loss": record.validation_loss,
        "reporting_loss": record.reporting_loss,
        "training_loss": record.training_loss,
        "elapsed_s": math.nan,
        "characters_per_s": math.nan,
        "peak_memory_mb": record.peak_memory_mb,
        "step_memory_mb": record.step_memory_mb or math.nan,
        "device": record.environment["device"],
        "corpus": record.corpus["name"],
        "record": f"logs/{record.name}.json",
    }
    if timed(record):
        row["elapsed_s"] = record.elapsed_s
        row["characters_per_s"] = record.characters_per_s
    return row


def arm_table(final):
    """One row an arm, means over its seeds: what is in tables/layer_ablation_results.csv."""
    rows = []
    for arm, runs in final.groupby("arm", sort=False):
        low, mean, high = mean_interval(runs["validation_loss"])
        row = {
            "arm": arm,
            "n_layers": runs["n_layers"].iloc[0],
            "parameters": runs["parameters"].iloc[0],
            "seeds": len(runs),
            "steps": runs["steps"].max(),
            "validation_loss": mean,
            "loss_low": low,
            "loss_high": high,
            "perplexity": runs["perplexity"].mean(),
        }
        means = ["reporting_loss", "training_loss", "elapsed_s", "peak_memory_mb", "step_memory_mb"]
        means = runs[[*means, "characters_per_s"]].mean()
        rows.append({**row, **means, "corpus": runs["corpus"].iloc[0]})
    return pd.DataFrame(rows)


def comparison_table(compared):
    """One row a comparison, as in tables/comparisons.csv. compared: comparisons.Comparison"""
    columns = ["arm", "other", "pairs", "difference", "low", "high", "p"]
    return pd.DataFrame([vars(one) for one in compared], columns=columns)


def baseline_table(baselines):
    """What counting alone reaches: tables/baselines.csv. baselines: name -> nats/character"""
    rows = [(name, loss, math.exp(loss)) for name, loss in baselines.items()]
    return pd.DataFrame(rows, columns=["model", "validation_loss", "perplexity"])


def rate_table(records):
    """One row a depth and learning rate: means over seeds of the half that chooses.

    arm: the depth's name. low, high: the losses of its best and its worst seed. best: whether it is
    its depth's best rate. inside: whether lower and higher ones were tried at this depth.
    """
    keys = ["n_layers", "arm", "learning_rate"]
    rows = []
    for r in records:
        depth = r.model["n_layers"]
        rows.append((depth, layers(depth), r.train["learning_rate"], r.choosing_loss))
    table = pd.DataFrame(rows, columns=[*keys, "choosing_loss"])
    losses = table.groupby(keys)["choosing_loss"]
    table = losses.agg(choosing_loss="mean", low="min", high="max").reset_index()

    by_depth = table.groupby("n_layers")
    rates = by_depth["learning_rate"]
    table["best"] = table["choosing_loss"] == by_depth["choosing_loss"].transform("min")
    table["inside"] = (rates.transform("min") < table["learning_rate"]) & (
        table["learning_rate"] < rates.transform("max")
    )
    return table
