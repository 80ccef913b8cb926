"""What the page of results is drawn from: the recorded study, as figures, tables and verdicts."""

import functools
import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd

from course_utils import corpus, figures, files
from course_utils.generation import quality
from course_utils.lessons.data import baseline_losses, split
from course_utils.research import recorded, statistics, studies, tables
from course_utils.research.effects import effects, losses_of, rate_table
from course_utils.training import runs

SEEDS = 6  # an arm with fewer is not shown
SPEAKER = re.compile(r"^([A-Z][A-Za-z ]+):$", re.MULTILINE)
MEASURES = {  # of a text -> its name in a table, in which unit, to how many places
    "known_words": ("known words (%)", 100, 1),
    "distinct_2": ("different pairs of words (%)", 100, 1),
    "repetition": ("repeated (%)", 100, 2),
    "longest_copy": ("longest copy (characters)", 1, 1),
    "five_gram_loss": ("loss under the 5-gram", 1, 3),
}


def missing(name):
    """What is not recorded yet, in one sentence; nothing where all is there."""
    study, found = studies.STUDIES[name], recorded.load(name)
    earlier = recorded.load(study.after) if study.after else ()
    asked = study.specs(study.recipe, study.seeds, corpus.load(), earlier)
    there = {replace(runs.spec_of(r, r.seed), corpus_sha256="") for r in found}
    left = sum(replace(spec, corpus_sha256="") not in there for spec in asked)
    return (
        f"{left} of this study's {len(asked)} runs are not recorded yet. `course ablate {name}` makes them."
        if left
        else ""
    )


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
        "seconds": by_arm["elapsed_s"].map("{:.3g}".format).replace("nan", "–"),
        "characters a second": by_arm["characters_per_s"].map("{:,.0f}".format).replace("nan", "–"),
        "peak memory (MB)": by_arm["peak_memory_mb"].map("{:,.0f}".format),
    })  # fmt: skip
    yield missing(name)


def verdicts(found, measure):
    """Each depth against the one before."""
    return "\n".join(f"* {comparison.verdict}" for comparison in tables.comparisons(found, measure))


@functools.cache
def baselines():
    """What n-grams reach, counted once a build."""
    return baseline_losses(corpus.load().text)


def rates(name):
    """The sweep of learning rates, and whether each best one has a worse neighbour on both sides."""
    table = rate_table(recorded.load(name))
    yield figures.rate_sweep(table)
    outside = [
        studies.layers(row.n_layers) for row in table[table["best"]].itertuples() if not row.inside
    ]
    if outside:
        yield f"At the edge of the grid, so not yet chosen: {', '.join(outside)}."
    else:
        yield "Each best rate has a worse one on either side, so the grid was wide enough."
    shown = (
        table.pivot(index="n_layers", columns="learning_rate", values="choosing_loss")
        .round(4)
        .reset_index()
    )
    yield shown.rename(columns=lambda c: "layers" if c == "n_layers" else f"{c:g}")
    yield missing(name)


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
        f"The control, the same arm with other seeds, differs by {control.difference:+z.4f}; its "
        f"interval, {control.low:+z.4f} to {control.high:+z.4f}, {covers} zero. "
        f"{int(ranked['clear'].sum())} of {len(ranked)} arms differ clearly after correction for their number."
    )
    counts = pd.Series([r.arm for r in found])
    losses = pd.DataFrame([vars(r) for r in found]).groupby("arm")["validation_loss"].mean()
    yield pd.DataFrame({
        "change": ranked["arm"], "seeds": ranked["arm"].map(counts.value_counts()),
        "loss, whole split": ranked["arm"].map(losses).map("{:.4f}".format),
        "difference, reporting half": ranked["difference"].map("{:+z.4f}".format),
        "95 % interval": [f"{r.low:+z.4f} … {r.high:+z.4f}" for r in ranked.itertuples()],
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
    yield figures.lines(
        ends, means, *labels, log_x=True, title="The further on, the easier: loss by place"
    )
    rows = {"place": ["1", "2", *(f"{a + 1}–{b}" for a, b in itertools.pairwise(ends[1:]))]}
    yield pd.DataFrame(
        rows | {arm: [f"{value:.3f}" for value in losses] for arm, losses in means.items()}
    )


def data():
    """What more text buys each depth, and how much of the held-out text its speakers were met in."""
    found, text = recorded.whole(recorded.load("data"), SEEDS), corpus.load()
    training, held_out = split(text.text)
    losses, drawn, rows = losses_of(found), [], []
    for share in sorted({r.data_share for r in found}):
        arms = {r.model["n_layers"]: r.arm for r in found if r.data_share == share}
        met = set(SPEAKER.findall(training[: round(share * len(training))]))
        speeches = SPEAKER.findall(held_out)
        row = {"share of the text": f"{share:.0%}"}
        for n, arm in sorted(arms.items()):
            low, mean, high = statistics.mean_interval(
                [r.validation_loss for r in found if r.arm == arm]
            )
            drawn.append({"n_layers": n, "share": share, "loss": mean, "low": low, "high": high})
            row[studies.layers(n)] = f"{mean:.3f}"
        for shallow, deep in itertools.pairwise(sorted(arms)):
            gain = statistics.compare(
                arms[deep], losses[arms[deep]], arms[shallow], losses[arms[shallow]]
            )
            row[f"{deep} against {shallow}"] = (
                f"{gain.difference:+z.3f} ({gain.low:+z.3f} … {gain.high:+z.3f})"
            )
        rows.append(
            row
            | {
                "speeches by known speakers": f"{sum(s in met for s in speeches) / len(speeches):.1%}"
            }
        )
    if len(drawn) > 3:
        yield figures.data_scaling(pd.DataFrame(drawn))
        yield (
            "What depth buys, in nats/character on the reporting half, with 95 % intervals:\n\n"
            + "\n".join(
                f"* {row['share of the text']} of the text: "
                + "; ".join(f"{name} {row[name]}" for name in row if "against" in name)
                for row in rows
            )
        )
        yield pd.DataFrame(rows)
    yield missing("data")


def samples():
    """What the depths write, side by side; and how their texts measure, beside as much human text."""
    table, judge = recorded.texts(), quality.Judge(corpus.load())
    if table.empty:
        yield "No text is recorded yet."
        return
    table = table[table["study"] == "depth"]
    length, pieces = (
        int(table["text"].str.len().median()),
        len(table) // table.groupby(["arm", "temperature"]).ngroups,
    )
    human = pd.DataFrame(judge.human(length, pieces))
    yield figures.sample_comparison(pd.concat([table, human], ignore_index=True))
    for _, setting in table.groupby("temperature"):
        seeds = {
            arm: one.groupby("seed")[list(MEASURES)].mean() for arm, one in setting.groupby("arm")
        }
        rows = [{"arm": arm, "texts": pieces, **in_words(one)} for arm, one in seeds.items()]
        rows.append({"arm": quality.HUMAN, "texts": len(human), **in_words(human)})
        how = setting[["temperature", "top_k", "top_p"]].iloc[0].dropna()
        said = ", ".join(f"{name.replace('_', '-')} {value:g}" for name, value in how.items())
        known = [
            f"{b} minus {a} {difference(seeds[a], seeds[b], 'known_words')}"
            for a, b in itertools.pairwise(seeds)
        ]
        yield f"With {said}, words that the training text has, in per cent: {'; '.join(known)}."
        yield pd.DataFrame(rows)


def in_words(table):
    """Each measure's mean, and half of its 95 % interval."""
    cells = {}
    for measure, (name, factor, digits) in MEASURES.items():
        low, mean, _ = statistics.mean_interval(factor * table[measure])
        cells[name] = f"{mean:.{digits}f} ± {mean - low:.{digits}f}"
    return cells


def difference(one, other, measure):
    """The mean of paired differences in per cent, with its 95 % interval."""
    low, mean, high = statistics.mean_interval(100 * (other - one)[measure].dropna())
    return f"{mean:+z.1f} ({low:+z.1f} to {high:+z.1f})"


def sources():
    """What was run, where, and for how long."""
    about = json.loads((files.PUBLISHED / "manifest.json").read_text(encoding="utf-8"))["studies"]
    yield pd.DataFrame([
        {"study": name, "runs": one["runs"], "arms": one["arms"], "seconds in all": f"{one['seconds']:,}",
         "device": ", ".join(one["device"]), "PyTorch": ", ".join(one["torch"]),
         "date": ", ".join(filter(None, one["date"]))}
        for name, one in about.items()
    ])  # fmt: skip


def laptop():
    """The course's own runs on two cores."""
    found = [
        r for r in runs.load_all(files.PUBLISHED) if r.study == "depth" and r.recipe == "laptop"
    ]
    final = tables.final_table(found)
    by_arm = tables.arm_table(final)
    yield figures.ablation_bars(by_arm, final, baselines())
    yield verdicts(found, "validation_loss")


PASSAGES = {
    **{
        name: (lambda name=name: depth(name))
        for name in studies.STUDIES
        if name.startswith("depth")
    },
    **{
        name: (lambda name=name: choices(name))
        for name in studies.STUDIES
        if name.startswith("choices")
    },
    "places": lambda: places("depth"),
    **{
        name: (lambda name=name: rates(name))
        for name in studies.STUDIES
        if name.startswith("rates")
    },
    "data": data,
    "samples": samples,
    "sources": sources,
    "laptop": laptop,
}
