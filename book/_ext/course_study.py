"""What the page of results is drawn from: the recorded study, as figures, tables and verdicts."""

import functools
import itertools
import json

import numpy as np
import pandas as pd

from course_utils import corpus, experiment, figures, paths, recorded, runs, statistics, studies, tables
from course_utils.effects import effects, rate_table

SEEDS = 6  # an arm with fewer is not shown


def missing(name):
    """What is not recorded yet, in one sentence; nothing where all is there."""
    study = studies.STUDIES[name]
    arms = {r.arm for r in recorded.whole(recorded.load(name), len(study.seeds))}
    if not callable(study.arms) and arms == set(study.arms):
        return ""
    so_far = (
        f"so far {len(arms)} arms have all their {len(study.seeds)} seeds" if arms else "no arm has all its seeds yet"
    )
    return f"Not all of this study is recorded: {so_far}. `course ablate {name}` runs it."


def depth(name):
    """A comparison of depths: losses with intervals, verdicts on the reporting half, costs."""
    found = recorded.whole(recorded.load(name), SEEDS)
    arms = list(dict.fromkeys(r.arm for r in found))
    if len(arms) < 2:
        yield missing(name)
        return
    found.sort(key=lambda r: r.model["n_layers"])
    final = tables.final_table(found)
    by_arm = tables.arm_table(final)
    yield figures.ablation_bars(by_arm, final, baselines())
    yield verdicts(found, "reporting_loss")  # the half that chose nothing
    yield figures.parameters_vs_perplexity(by_arm, final, baselines=baselines())
    halves = pd.DataFrame([vars(r) for r in found]).groupby("arm", sort=False)
    yield pd.DataFrame({
        "arm": by_arm["arm"], "parameters": by_arm["parameters"].map("{:,}".format), "seeds": by_arm["seeds"],
        "steps to the best": halves["best_step"].mean().map("{:,.0f}".format).tolist(),
        "loss, whole split": by_arm["validation_loss"].map("{:.4f}".format),
        "choosing half": halves["choosing_loss"].mean().map("{:.4f}".format).tolist(),
        "reporting half": halves["reporting_loss"].mean().map("{:.4f}".format).tolist(),
        "training loss then": by_arm["training_loss"].map("{:.4f}".format),
        "perplexity": by_arm["perplexity"].map("{:.3f}".format),
        "peak memory (MB)": by_arm["peak_memory_mb"].map("{:,.0f}".format),
    })  # fmt: skip
    yield missing(name)


def verdicts(found, measure):
    """Each depth against the one before."""
    return "\n".join(f"* {comparison.verdict}" for comparison in tables.comparisons(found, measure))


@functools.cache
def baselines():
    """What n-grams reach, counted once a build."""
    return experiment.baseline_losses(corpus.load())


def rates():
    """The sweep of learning rates, and whether each best one has a worse neighbour on both sides."""
    table = rate_table(recorded.load("rates"))
    yield figures.rate_sweep(table)
    outside = [studies.layers(row.n_layers) for row in table[table["best"]].itertuples() if not row.inside]
    if outside:
        yield f"At the edge of the grid, so not yet chosen: {', '.join(outside)}."
    shown = table.pivot(index="n_layers", columns="learning_rate", values="choosing_loss").round(4).reset_index()
    yield shown.rename(columns=lambda c: "layers" if c == "n_layers" else f"{c:g}")
    yield missing("rates")


def choices(name):
    """Every other choice, one change at a time, ranked by what it does."""
    found = recorded.whole(recorded.load(name), SEEDS)
    if studies.REFERENCE not in {r.arm for r in found}:
        yield missing(name)
        return
    ranked = effects(found, studies.REFERENCE)
    yield figures.effect_ranking(ranked, title="What each choice changes: one change at a time")
    control = ranked[ranked["arm"].str.startswith(studies.REFERENCE)].iloc[0]
    covers = "covers" if control.low < 0 < control.high else "does not cover"
    yield (
        f"The control, the same arm with other seeds, differs by {control.difference:+.4f}; its interval, "
        f"{control.low:+.4f} to {control.high:+.4f}, {covers} zero. {int(ranked['clear'].sum())} of {len(ranked)} arms "
        "differ clearly after correction for their number."
    )
    counts = pd.Series([r.arm for r in found])
    losses = pd.DataFrame([vars(r) for r in found]).groupby("arm")["validation_loss"].mean()
    yield pd.DataFrame({
        "change": ranked["arm"], "seeds": ranked["arm"].map(counts.value_counts()),
        "loss, whole split": ranked["arm"].map(losses).map("{:.4f}".format),
        "difference, reporting half": ranked["difference"].map("{:+.4f}".format),
        "95 % interval": [f"{r.low:+.4f} … {r.high:+.4f}" for r in ranked.itertuples()],
        "p": ranked["p"].map("{:.2g}".format), "p, corrected": ranked["p_holm"].map("{:.2g}".format),
    })  # fmt: skip
    yield missing(name)


def places(name):
    """Loss by position in the context, a line an arm."""
    found = recorded.whole(recorded.load(name), SEEDS)
    arms = {}
    for r in sorted(found, key=lambda r: r.model["n_layers"]):
        arms.setdefault(r.arm, []).append(r.position_losses)
    if not arms:
        return
    means = {arm: np.mean(losses, axis=0) for arm, losses in arms.items()}
    count = len(next(iter(means.values())))
    ends = [1, *(2**i for i in range(1, count))]  # the last place of each bin
    labels = "place in the context (characters)", "loss (nats/character)"
    yield figures.lines(ends, means, *labels, log_x=True, title="The further on, the easier: loss by place")
    rows = {"place": ["1", "2", *(f"{a + 1}–{b}" for a, b in itertools.pairwise(ends[1:]))]}
    yield pd.DataFrame(rows | {arm: [f"{value:.3f}" for value in losses] for arm, losses in means.items()})


def data():
    """What more text buys each depth."""
    found = recorded.whole(recorded.load("data"), SEEDS)
    rows = []
    for n, share in sorted({(r.model["n_layers"], r.data_share) for r in found}):
        losses = [r.validation_loss for r in found if (r.model["n_layers"], r.data_share) == (n, share)]
        low, mean, high = statistics.mean_interval(losses)
        rows.append({"n_layers": n, "share": share, "loss": mean, "low": low, "high": high})
    if len(rows) > 3:
        yield figures.data_scaling(pd.DataFrame(rows))
    yield missing("data")


def sources():
    """What was run, where, and for how long."""
    about = json.loads((paths.PUBLISHED / "manifest.json").read_text(encoding="utf-8"))["studies"]
    yield pd.DataFrame([
        {"study": name, "runs": one["runs"], "arms": one["arms"], "seconds in all": f"{one['seconds']:,}",
         "device": ", ".join(one["device"]), "PyTorch": ", ".join(one["torch"]),
         "date": ", ".join(filter(None, one["date"]))}
        for name, one in about.items()
    ])  # fmt: skip


def laptop():
    """The course's own runs on two cores."""
    found = [r for r in runs.load_all(paths.PUBLISHED) if r.study == "depth" and r.recipe == "laptop"]
    final = tables.final_table(found)
    by_arm = tables.arm_table(final)
    yield figures.ablation_bars(by_arm, final, baselines())
    yield verdicts(found, "validation_loss")


PASSAGES = {
    **{name: (lambda name=name: depth(name)) for name in studies.STUDIES if name.startswith("depth")},
    **{name: (lambda name=name: choices(name)) for name in studies.STUDIES if name.startswith("choices")},
    "places": lambda: places("depth"),
    "rates": rates,
    "data": data,
    "sources": sources,
    "laptop": laptop,
}
