"""What the page of results is drawn from: the recorded study, as figures, tables and verdicts."""

import itertools
import json
import re
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pandas as pd
from scipy import stats

from course_utils import corpus, figures, files
from course_utils.figures.words import MEASURES, UNTOUCHED
from course_utils.generation import quality
from course_utils.lessons.data import baseline_losses, split
from course_utils.messages import N_, _
from course_utils.messages.names import translated
from course_utils.research import comparisons, recorded, scaling, studies, tables
from course_utils.training import runs
from course_utils.training.recipes import layers

SEEDS = 6  # an arm with fewer is not shown
SPEAKER = re.compile(r"^([A-Z][A-Za-z ]+):$", re.MULTILINE)
FRAMES = {  # a study of depth -> the way in which it compares
    "depth": "plain protocol",
    "depth-fair": "fair rate",
    "depth-stopping": "fair rate with early stopping",
    "depth-parameters": "equal parameters",
    "depth-time": "equal time",
}
HEADLINES = {  # a step in depth, as comparisons.in_frames names it -> the two depths in words
    "4 layers - 2 layers": (N_("Four layers"), N_("layers|two")),
    "6 layers - 4 layers": (N_("Six layers"), N_("layers|four")),
}
PLACES = {  # of a measure of texts, in a table
    "known_words": 1,
    "distinct_2": 1,
    "repetition": 2,
    "longest_copy": 1,
    "five_gram_loss": 3,
}


def missing(name):
    """What is not recorded yet, in one sentence; nothing where all is there."""
    study = studies.STUDIES[name]
    earlier = recorded.load(study.after) if study.after else ()
    asked = study.specs(study.recipe, study.seeds, corpus.load(), earlier)
    there = {replace(runs.spec_of(r, r.seed), corpus_sha256="") for r in recorded.load(name)}
    left = sum(replace(spec, corpus_sha256="") not in there for spec in asked)
    if not left:
        return ""
    return _(
        "{left} of this study's {n} runs are not recorded yet. `course ablate {name}` makes them.",
        left=left,
        n=len(asked),
        name=name,
    )


# --- words ---------------------------------------------------------------------------------------
def listed(words):
    """One after the other: "a, b, c"."""
    return _("in a list|, ").join(words)


def in_turn(clauses):
    """One after the other, where they are longer: "a; b; c"."""
    return _("in a list|; ").join(clauses)


def named(names):
    """What records keep in English, one after the other."""
    return listed(map(translated, names))


def depth_named(n):
    return translated(layers(n))


def length_named(steps):
    return translated(f"{steps:,} steps")


def whose(value, name):
    return _("{value} ({name})", value=value, name=name)


def span(low, middle, high, form="{:+z.3f}"):
    """A value with its interval."""
    low, middle, high = map(form.format, (low, middle, high))
    return _("{middle} ({low} … {high})", low=low, middle=middle, high=high)


# --- the verdict ---------------------------------------------------------------------------------
@cache
def in_frames():
    """frame -> its recorded runs; and all their comparisons."""
    frames = {frame: found for name, frame in FRAMES.items() if (found := of_depth(name))}
    return frames, comparisons.in_frames(frames)


def verdict():
    """What all frames say together: three sentences, every depth in every frame, and new plays."""
    frames, table = in_frames()
    four, six = (of_step(table, step) for step in HEADLINES)
    every = pd.concat([four, six])
    of_four, of_six = headlines(table)
    yield _(
        "{four} {six} How sure: {seeds} paired seeds or more in each frame, 95 % intervals no "
        "wider than ± {widest:.3f}, on the half of the held-out text that reports; one text, one "
        "kind of model. Corrected for all {all} comparisons, {clear} of these {n} stay clear (on "
        "the whole split {whole}, for more layers or fewer).",
        four=of_four,
        six=of_six,
        seeds=every["seeds"].min(),
        widest=((every["high"] - every["low"]) / 2).max(),
        all=len(table),
        clear=every["clear"].sum(),
        n=len(every),
        whole=(every["whole_p_holm"] < 0.05).sum(),
    )
    means = means_by_depth(frames, "reporting_loss")
    clear = [(steps["clear"] & (steps["high"] < 0)).sum() for steps in (four, six)]
    title = _(
        "After correction four layers beat two in {four} of {n} frames, six beat four in {six}",
        four=clear[0],
        n=len(four),
        six=clear[1],
    )
    yield figures.depth_in_frames(means, title=title)
    yield on_new_plays()


def on_new_plays():
    """The same two steps on plays that no rate was chosen by, by length of training."""
    table = comparisons.in_frames({frame: found for frame, found in by_length().items() if found})
    new = {"untouched": "difference", "untouched_low": "low", "untouched_high": "high"}
    table = table.drop(columns=[*new.values(), "clear"]).rename(columns=new)
    table["clear"] = table["untouched_p_holm"] < 0.05
    four, six = headlines(table, N_("verdict|lengths"))
    return _(
        "On **eight whole plays that no rate was chosen by**, at a fair rate, with eight other "
        "seeds ([more steps](#more-steps-and-eight-plays-that-nothing-has-read)): {four} {six} At "
        "600 steps four layers had twice the rate of six, chosen by little, so both verdicts there "
        "may be the rate's.",
        four=four,
        six=six,
    )


def every_frame():
    """All comparisons of depths at once: corrected for their number, and on the whole split too."""
    table = in_frames()[1]
    wide = table[(table["whole_low"] > 0) | (table["whole_high"] < 0)]
    seen = table[(table["low"] > 0) | (table["high"] < 0)]
    turned = len(set(wide.index) ^ set(seen.index))
    clear = table["clear"].sum()
    title = _("{clear} of {n} differences survive their number", clear=clear, n=len(table))
    yield figures.effect_ranking(table.assign(arm=table["name"]), title=title)
    yield _(
        "{seen} of the {n} intervals exclude zero on the half that reports, and {clear} p-values "
        "survive Holm's correction for all of them. On the whole split {wide} intervals exclude "
        "zero: **{turned} verdicts turn** with the text that is asked. Where nothing was chosen on "
        "the first half but a rate, by other seeds (*fair rate*, *equal parameters*, *equal "
        "time*), the whole split is nearly as honest, and twice the text; where runs stop early, "
        "it flatters the step that they kept.",
        seen=len(seen),
        n=len(table),
        clear=clear,
        wide=len(wide),
        turned=turned,
    )
    nulls = table.drop(seen.index)
    room = nulls[["low", "high"]].abs().max(axis=1)  # what each does not exclude
    r = table["r"]
    yield _(
        "On average pairing gained nothing: over the seeds, the losses of two arms correlate by "
        "{mean:.2f} on average ({low:.2f} to {high:.2f}). A *no difference seen* never means "
        "*none*: these {n} leave room for {least:.3f} to {most:.3f}. Which true difference a row "
        "would see in {power:.0%} of studies, if seeds scatter as they did and nothing is "
        "corrected, stands in the table.",
        mean=r.mean(),
        low=r.min(),
        high=r.max(),
        n=len(nulls),
        least=room.min(),
        most=room.max(),
        power=scaling.POWER,
    )
    columns = {
        N_("six seeds, reporting half"): table["difference"].map("{:+z.4f}".format),
        N_("95 % interval"): intervals(table["low"], table["high"]),
        N_("p, corrected"): table["p_holm"].map("{:.2g}".format),
        _("seen in {power:.0%}", power=scaling.POWER): table.apply(seen_by, axis=1),
        N_("whole split"): table["whole"].map("{:+z.4f}".format),
        N_("its interval"): intervals(table["whole_low"], table["whole_high"]),
        "r": table["r"].map("{:.2f}".format),
    }
    yield pd.DataFrame({N_("comparison"): table["name"].map(translated), **columns})


def intervals(lows, highs):
    """A column of them."""
    return [f"{low:+z.4f} … {high:+z.4f}" for low, high in zip(lows, highs, strict=True)]


def seen_by(row):
    """The smallest true difference that a comparison would most often see, uncorrected."""
    t = stats.t.ppf(0.975, row.seeds - 1)
    spread = (row.high - row.low) / 2 / t * row.seeds**0.5
    return f"± {scaling.smallest_seen(spread, row.seeds):.3f}"


def budgets():
    """What depth buys in fewer steps and in more, and on plays that nothing has read."""
    frames = by_length()
    if not all(frames.values()):
        yield missing(f"depth-{studies.BUDGETS[0]}")
        return
    table = comparisons.in_frames(frames)
    means = means_by_depth(frames, "untouched_loss")
    title = _("The lowest mean loss on new plays: {best}", best=best_by_length(means))
    yield figures.depth_in_frames(means, title=title, loss=UNTOUCHED)
    better = table[(table["untouched_p_holm"] < 0.05) & (table["untouched"] < 0)]
    worse = table[(table["untouched_p_holm"] < 0.05) & (table["untouched"] > 0)]
    yield _(
        "Of {n} steps up in depth, more layers are clearly better on the plays in {better}, and "
        "clearly worse in {worse} (p < 0.05 after Holm's correction).",
        n=len(table),
        better=len(better),
        worse=len(worse),
    )
    yield on_the_plays(frames, table)
    lacks = {length_named(steps): missing(f"depth-{steps}") for steps in studies.BUDGETS}
    yield "\n".join(f"* {length}: {words}" for length, words in lacks.items() if words)


def on_the_plays(frames, table):
    """Each depth against the one before, on the half that reports and on the untouched plays.

    table: comparisons.in_frames(frames)
    """
    plays = [
        comparisons.over_plays(losses, before)
        for found in frames.values()
        for before, losses in itertools.pairwise(comparisons.losses_of(found, "untouched").values())
    ]
    columns = {
        N_("seeds"): table["seeds"],
        N_("second half"): table["difference"].map("{:+z.4f}".format),
        N_("p, Holm"): [f"{p:.2g}" for p in table["p_holm"]],
        N_("untouched plays"): table["untouched"].map("{:+z.4f}".format),
        N_("p, Holm "): [f"{p:.2g}" for p in table["untouched_p_holm"]],
        N_("95 %, other seeds and plays"): [f"{low:+z.3f} … {high:+z.3f}" for low, high in plays],
    }
    return pd.DataFrame({N_("comparison"): table["name"].map(translated), **columns})


@cache
def by_length():
    """Length of training, in words -> the runs that report depth at that length."""
    return {f"{steps:,} steps": of_depth(f"depth-{steps}", 1) for steps in studies.BUDGETS}


def best_by_length(means):
    """The depth with the lowest mean in each frame, in words."""
    best = means.loc[means.groupby("frame", sort=False)["loss"].idxmin()]
    return listed(
        _("{depth} at {length}", depth=depth_named(row.n_layers), length=translated(row.frame))
        for row in best.itertuples()
    )


def of_depth(name, seeds=SEEDS):
    """The recorded runs of a study of depth, the shallowest first, of arms with so many seeds."""
    found = recorded.whole(recorded.load(name), seeds)
    return by_depth(found)


def by_depth(found):
    return sorted(found, key=lambda r: r.model["n_layers"])


def depths_of(found):
    """number of layers -> arm"""
    return {r.model["n_layers"]: r.arm for r in found}


def steps_of(found, measure="reporting_loss"):
    """Each depth against the one before it: (shallow, deep) -> Comparison. found: by depth."""
    pairs = itertools.pairwise(depths_of(found))
    return dict(zip(pairs, comparisons.adjacent(found, measure), strict=True))


def of_step(table, step):
    """The rows of one step in depth, in all frames. table: comparisons.in_frames"""
    return table[table["name"].str.endswith(f": {step}")]


IN_FRAMES = N_("verdict|frames")


def headlines(table, kind=IN_FRAMES):
    """A sentence for each of the two steps that the course asks about."""
    return [
        frames_in_words(_(deep), _(shallow), of_step(table, step), kind)
        for step, (deep, shallow) in HEADLINES.items()
    ]


def frames_in_words(deep, shallow, table, kind=IN_FRAMES):
    """A sentence: where the deeper model is better, and by how much; where it isn't."""
    won = table[table["high"] < 0]
    lost = table[table["low"] > 0]
    level = table.drop([*won.index, *lost.index])
    clauses = [
        _(
            "**{deep} predict better than {shallow} in {n} of {all} {kind}**",
            deep=deep,
            shallow=shallow,
            n=len(won),
            all=len(table),
            kind=_(kind),
        )
    ]
    if len(won):
        clauses = [won_in_words(clauses[0], won)]
    if len(level):
        where = {"n": len(level), "names": named(level["frame"])}
        clauses.append(_("no difference is seen in {n} ({names})", **where))
    if len(lost):
        clauses.append(lost_in_words(lost))
    return _("{clauses}.", clauses=in_turn(clauses))


def won_in_words(clause, won):
    """The clause, with where that is and by how much, and how much of it is sure."""
    gains = sorted(-won["difference"])
    by = f"{gains[0]:.3f}"
    if len(gains) > 1:
        by = _("{low:.3f} to {high:.3f}", low=gains[0], high=gains[-1])
    clause = _(
        "{clause} ({names}), by {by} nats/character",
        clause=clause,
        names=named(won["frame"]),
        by=by,
    )
    clear = won["clear"].sum()
    if clear < len(won):
        clause = _("{clause}, and after correction in {n}", clause=clause, n=clear)
    return clause


def lost_in_words(lost):
    """Where more layers are worse, and where that is sure."""
    where = {"n": len(lost), "names": named(lost["frame"])}
    clause = _("they are worse in {n} ({names})", **where)
    sure = lost[lost["clear"]]
    if len(sure) == len(lost):
        return clause
    if sure.empty:
        return _("{clause}, and after correction in {n}", clause=clause, n=0)
    where = {"n": len(sure), "names": named(sure["frame"])}
    return _("{clause}, and after correction in {n} ({names})", clause=clause, **where)


def finding(found, measure):
    """Which depths differ, in the few words of a title."""
    said = []
    for (shallow, deep), one in steps_of(found, measure).items():
        two = {"deep": deep, "shallow": shallow}
        if one.high < 0:
            said.append(_("{deep} layers beat {shallow}", **two))
        elif one.low > 0:
            said.append(_("{deep} layers lose to {shallow}", **two))
        else:
            said.append(_("no difference seen between {deep} and {shallow}", **two))
    return _("between findings|, ").join(said)


def depth(name):
    """A comparison of depths: losses with intervals, verdicts on the reporting half, costs."""
    found = of_depth(name)
    if len(depths_of(found)) < 2:
        yield missing(name)
        return
    final = tables.final_table(found)
    by_arm = tables.arm_table(final)
    frame = translated(FRAMES[name]).capitalize()
    title = _("{frame}: {found}", frame=frame, found=finding(found, "reporting_loss"))
    yield figures.ablation_bars(by_arm, final, yardstick(), title=title)
    yield verdicts(found, "reporting_loss")  # the half that chose nothing
    if name == "depth":
        yield learning_curves(found)
    yield costs(found, by_arm)
    yield missing(name)


def learning_curves(found):
    """How the losses fall, and in the title where each depth has its best step."""
    best = pd.DataFrame([vars(r) for r in found]).groupby("arm", sort=False)["best_step"].mean()
    steps = listed(whose(f"{step:,.0f}", translated(arm)) for arm, step in best.items())
    title = _("The deeper, the sooner comes the best step: {steps}", steps=steps)
    if not best.is_monotonic_decreasing:
        title = _("Mean best steps: {steps}", steps=steps)
    return figures.training_curves(tables.curves(found), yardstick(), title=title)


def costs(found, by_arm):
    """A row a depth: its losses on either half, and what it cost."""
    means = (
        pd.DataFrame([vars(r) for r in found]).groupby("arm", sort=False).mean(numeric_only=True)
    )
    means = means.loc[by_arm["arm"]].reset_index()
    speed = by_arm["characters_per_s"].map("{:,.0f}".format)
    columns = {
        N_("parameters"): by_arm["parameters"].map("{:,}".format),
        N_("seeds"): by_arm["seeds"],
        N_("steps to the best"): means["best_step"].map("{:,.0f}".format),
        N_("loss, whole split"): by_arm["validation_loss"].map("{:.4f}".format),
        N_("choosing half"): means["choosing_loss"].map("{:.4f}".format),
        N_("reporting half"): means["reporting_loss"].map("{:.4f}".format),
        N_("training loss then"): by_arm["training_loss"].map("{:.4f}".format),
        N_("perplexity"): by_arm["perplexity"].map("{:.3f}".format),
        N_("seconds"): by_arm["elapsed_s"].map("{:.3g}".format).replace("nan", "–"),
        N_("characters a second"): speed.replace("nan", "–"),
        N_("peak memory (MiB)"): by_arm["peak_memory_mb"].map("{:,.0f}".format),
    }
    return pd.DataFrame({N_("arm"): by_arm["arm"].map(translated), **columns})


def verdicts(found, measure):
    """Each depth against the one before."""
    return "\n".join(f"* {one.verdict}" for one in comparisons.adjacent(found, measure))


@cache
def baselines():
    """What n-grams reach, counted once a build."""
    return baseline_losses(corpus.load().text)


def yardstick():
    """The best of them alone: the others lie off every picture's range."""
    name = min(baselines(), key=baselines().get)
    return {name: baselines()[name]}


RATES = {  # a sweep -> its title
    "rates": N_("Fixed budget, two seeds: {rate:g} is the best rate of {n} of {all} depths"),
    "rates-stopping": N_(
        "Stopped early, two seeds: {rate:g} is the best rate of {n} of {all} depths"
    ),
}


def rates(name):
    """The sweep of learning rates; whether each best one has a worse neighbour on either side."""
    table = tables.rate_table(recorded.load(name))
    best = table[table["best"]]
    liked = best["learning_rate"].mode()[0]
    liking = (best["learning_rate"] == liked).sum()
    title = _(RATES[name], rate=liked, n=liking, all=len(best))
    yield figures.rate_sweep(table, title=title)
    outside = table.loc[table["best"] & ~table["inside"], "arm"]
    if len(outside):
        yield _("At the edge of the grid, so not yet chosen: {arms}.", arms=named(outside))
    else:
        yield _("Each best rate has a worse one on either side, so the grid was wide enough.")
    losses = table.pivot(index="n_layers", columns="learning_rate", values="choosing_loss").round(4)
    leads = losses.apply(lambda row: row.nsmallest(2).diff().iloc[-1], axis=1)
    yield _(
        "By so much, in nats/character, each depth's best rate leads its next best: {leads}.",
        leads=listed(whose(f"{lead:.4f}", depth_named(n)) for n, lead in leads.items()),
    )
    yield _(
        "And on the half that reports, where a minus is for the next best: {leads}.",
        leads=next_best(name),
    )
    losses.columns = [f"{rate:g}" for rate in losses.columns]
    losses = losses.map("{:.4f}".format)
    yield losses.rename_axis(N_("layers")).reset_index()
    yield missing(name)


def next_best(name):
    """By how much each depth's best rate leads its next best on the other half, in words."""
    found = pd.DataFrame([vars(r) for r in recorded.load(name)])
    found["n_layers"] = [model["n_layers"] for model in found["model"]]
    found["rate"] = [train["learning_rate"] for train in found["train"]]
    halves = ["choosing_loss", "reporting_loss"]
    means = found.groupby(["n_layers", "rate"])[halves].mean()
    leads = []
    for n, of in means.groupby("n_layers"):
        best, second = of.nsmallest(2, "choosing_loss")["reporting_loss"]
        leads.append(whose(f"{second - best:+z.4f}", depth_named(n)))
    return listed(leads)


CHOICES = {  # a ranking -> its title
    "choices-modern": N_("Modern model: of {n} changes {hurt} clearly hurt, {helped} clearly help"),
    "choices-fair": N_("Baseline model: of {n} changes {hurt} clearly hurt, {helped} clearly help"),
}
OF_CONTROL = {  # whether the interval covers zero -> what the control says
    True: N_(
        "The control, the same arm with other seeds, differs by {difference:+z.4f}; its interval, "
        "{low:+z.4f} to {high:+z.4f}, covers zero."
    ),
    False: N_(
        "The control, the same arm with other seeds, differs by {difference:+z.4f}; its interval, "
        "{low:+z.4f} to {high:+z.4f}, does not cover zero."
    ),
}


def choices(name):
    """Every other choice, one change at a time, ranked by what it does."""
    found = recorded.whole(recorded.load(name), SEEDS)
    if comparisons.REFERENCE not in {r.arm for r in found}:
        yield missing(name)
        return
    ranked = comparisons.against(found)
    other_task = comparisons.other_task(ranked)
    changes = ranked[~other_task & (ranked["arm"] != comparisons.CONTROL)]
    clear = changes[changes["clear"]]
    hurt = (clear["difference"] > 0).sum()
    helped = (clear["difference"] < 0).sum()
    title = _(CHOICES[name], n=len(changes), hurt=hurt, helped=helped)
    yield figures.effect_ranking(ranked[~other_task], title=title)
    contexts = [
        f"{r.arm.removeprefix('context ')} {span(r.low, r.difference, r.high)}"
        for r in ranked[other_task].itertuples()
    ]
    yield _(
        "Another *context* is another task, so these stand apart: {contexts}.",
        contexts=in_turn(contexts),
    )
    yield _(
        "{control} {clear} of {n} arms differ clearly after correction for their number.",
        control=control_in_words(ranked),
        clear=ranked["clear"].sum(),
        n=len(ranked),
    )
    counts = pd.Series([r.arm for r in found])
    losses = pd.DataFrame([vars(r) for r in found]).groupby("arm")["validation_loss"].mean()
    columns = {
        N_("seeds"): ranked["arm"].map(counts.value_counts()),
        N_("loss, whole split"): ranked["arm"].map(losses).map("{:.4f}".format),
        N_("difference, reporting half"): ranked["difference"].map("{:+z.4f}".format),
        N_("95 % interval"): intervals(ranked["low"], ranked["high"]),
        "p": ranked["p"].map("{:.2g}".format),
        N_("p, corrected"): ranked["p_holm"].map("{:.2g}".format),
    }
    yield pd.DataFrame({N_("change"): ranked["arm"].map(translated), **columns})
    yield missing(name)


def control_in_words(ranked):
    """A sentence: whether the same arm with other luck differs from itself."""
    control = ranked[ranked["arm"].str.startswith(comparisons.REFERENCE)].iloc[0]
    covers = bool(control.low < 0 < control.high)
    return _(OF_CONTROL[covers], difference=control.difference, low=control.low, high=control.high)


def optimizers():
    """AdamW and Muon at all their rates; each one's best, by the half that chooses, compared."""
    found = recorded.whole(recorded.load("optimizers"), SEEDS)
    chosen = comparisons.losses_of(found, "choosing_loss")
    reported = comparisons.losses_of(found)
    rows, best = [], {}
    for arm in chosen:
        kind, rate = arm.split(", rate ")
        choosing = pd.Series(chosen[arm]).mean()
        best.setdefault(kind, arm)
        if choosing < pd.Series(chosen[best[kind]]).mean():
            best[kind] = arm
        reporting = pd.Series(reported[arm]).mean()
        halves = {
            N_("choosing half"): f"{choosing:.4f}",
            N_("reporting half"): f"{reporting:.4f}",
        }
        rows.append({N_("optimiser"): kind, N_("its rate"): rate, **halves})
    yield pd.DataFrame(rows)
    one, other = best.values()
    yield f"* {comparisons.compare(other, reported[other], one, reported[one]).verdict}"
    yield missing("optimizers")


def places(name):
    """Loss by position in the context, a line an arm."""
    found = recorded.whole(recorded.load(name), SEEDS)
    arms = {}
    for r in by_depth(found):
        arms.setdefault(r.arm, []).append(r.position_losses)
    if not arms:
        return
    means = {translated(arm): np.mean(losses, axis=0) for arm, losses in arms.items()}
    count = len(next(iter(means.values())))
    ends = [1, *(2**i for i in range(1, count))]  # the last place of each bin
    yield figures.lines(
        ends,
        means,
        _("place in the context (characters)"),
        _("loss (nats/character)"),
        log_x=True,
        title=place_title(means, ends),
    )
    columns = {arm: [f"{value:.3f}" for value in losses] for arm, losses in means.items()}
    bins = ["1", "2", *(f"{a + 1}–{b}" for a, b in itertools.pairwise(ends[1:]))]
    yield pd.DataFrame({N_("place"): bins, **columns})


def place_title(means, ends):
    """What a place in the context is worth."""
    losses = np.mean(list(means.values()), axis=0)
    at = ends.index(32)
    return _(
        "The first character costs {first:.2f} nats, one near the 32nd {near:.2f}, the last ones "
        "{last:.2f}",
        first=losses[0],
        near=losses[at],
        last=losses[-1],
    )


def data():
    """What more text buys each depth, and how much of the held-out text is by known speakers."""
    found = recorded.whole(recorded.load("data"), SEEDS)
    shares = sorted({r.data_share for r in found})
    drawn = [
        {"arm": layers(n), "share": share, **mean_of(found, arm)}
        for share in shares
        for n, arm in depths_of(sharing(found, share)).items()
    ]
    gains = {share: steps_of(sharing(found, share)) for share in shares}
    rows = [data_row(found, share, gains[share]) for share in shares]
    if len(drawn) > 3:
        yield figures.data_scaling(pd.DataFrame(drawn), title=data_title(gains))
        lead = _("What depth buys, in nats/character on the reporting half, with 95 % intervals:")
        yield "\n".join([lead, "", *(gains_in_words(share, gains[share]) for share in shares)])
        yield corrected(gains, N_("reporting half"))
        whole = {share: steps_of(sharing(found, share), "validation_loss") for share in shares}
        yield corrected(whole, N_("whole split"))
        yield pd.DataFrame(rows)
    yield missing("data")


def corrected(gains, text):
    """A sentence: what depth does on each share of the text, after Holm's correction for all."""
    every = [
        (_("{pair} on {share:.0%}", pair=against(*pair), share=share), gain)
        for share, steps in gains.items()
        for pair, gain in steps.items()
    ]
    adjusted = comparisons.holm([gain.p for name, gain in every])
    clear = [
        _("{name} ({difference:+z.3f})", name=name, difference=gain.difference)
        for (name, gain), p in zip(every, adjusted, strict=True)
        if p < 0.05
    ]
    return _(
        "Clear on the {text} after Holm's correction for all {n}: {found}.",
        text=_(text),
        n=len(every),
        found=listed(clear) or _("corrected|none"),
    )


def against(shallow, deep):
    return _("{deep} against {shallow}", deep=deep, shallow=shallow)


def sharing(found, share):
    """The runs that read this share of the text, the shallowest first."""
    return by_depth(r for r in found if r.data_share == share)


def data_title(gains):
    """From which share of the text on a deeper model is clearly better."""
    said = []
    for shallow, deep in itertools.pairwise(studies.DEPTHS):
        won = [f"{share:.0%}" for share, steps in gains.items() if steps[shallow, deep].high < 0]
        words = (
            N_("{deep} layers beat {shallow} on {shares} of the text")
            if won
            else N_("{deep} layers beat {shallow} on no share of the text")
        )
        said.append(_(words, deep=deep, shallow=shallow, shares=listed(won)))
    return in_turn(said)


def means_by_depth(frames, measure):
    """A row a frame and depth: frame, n_layers, and the mean loss with its interval."""
    return pd.DataFrame(
        {"frame": frame, "n_layers": n, **mean_of(found, arm, measure)}
        for frame, found in frames.items()
        for n, arm in depths_of(found).items()
    )


def mean_of(found, arm, measure="validation_loss"):
    """An arm's mean loss and its interval."""
    losses = [getattr(r, measure) for r in found if r.arm == arm]
    low, mean, high = comparisons.mean_interval(losses)
    return {"loss": mean, "low": low, "high": high}


def data_row(found, share, gains):
    """One share of the text: each depth's loss, what depth buys, and known speakers."""
    row = {N_("share of the text"): f"{share:.0%}"}
    for n, arm in depths_of(sharing(found, share)).items():
        row[depth_named(n)] = f"{mean_of(found, arm)['loss']:.3f}"
    for pair, gain in gains.items():
        row[against(*pair)] = span(gain.low, gain.difference, gain.high)
    row[N_("speeches by known speakers")] = f"{known_speakers(share):.1%}"
    return row


def gains_in_words(share, gains):
    """A line of a list: what depth buys at one share of the text."""
    said = [
        f"{against(*pair)} {span(gain.low, gain.difference, gain.high)}"
        for pair, gain in gains.items()
    ]
    return _("* {share:.0%} of the text: {gains}", share=share, gains=in_turn(said))


def known_speakers(share):
    """How many of the held-out text's speeches are by speakers that this share of the text has."""
    training, held_out = split(corpus.load().text)
    met = set(SPEAKER.findall(training[: round(share * len(training))]))
    speeches = SPEAKER.findall(held_out)
    return sum(speaker in met for speaker in speeches) / len(speeches)


def samples():
    """What the depths write, side by side; how their texts measure, beside as much human text."""
    table = recorded.texts()
    if table.empty:
        yield _("No text is recorded yet.")
        return
    table = table[table["study"] == "depth"]
    length = int(table["text"].str.len().median())
    pieces = len(table) // table.groupby(["arm", "temperature"]).ngroups
    human = pd.DataFrame(quality.Judge(corpus.load()).human(length, pieces))
    yield figures.sample_comparison(pd.concat([table, human], ignore_index=True))
    for temperature, rows in table.groupby("temperature"):
        seeds = {
            arm: texts.groupby("seed")[list(PLACES)].mean() for arm, texts in rows.groupby("arm")
        }
        how = rows[["top_k", "top_p"]].iloc[0].dropna()
        setting = [_("temperature {value:g}", value=temperature)]
        setting += [f"{name.replace('_', '-')} {value:g}" for name, value in how.items()]
        gains = [
            _(
                "{deep} minus {shallow} {difference}",
                deep=translated(deep),
                shallow=translated(shallow),
                difference=difference(seeds[shallow], seeds[deep], "known_words"),
            )
            for shallow, deep in itertools.pairwise(seeds)
        ]
        yield _(
            "With {setting}, words that the training text has, in per cent: {gains}.",
            setting=listed(setting),
            gains=in_turn(gains),
        )
        means = {**seeds, quality.HUMAN: human}
        count = {quality.HUMAN: len(human)}
        yield pd.DataFrame(
            {N_("arm"): translated(arm), N_("texts"): count.get(arm, pieces), **in_words(of)}
            for arm, of in means.items()
        )


def in_words(table):
    """Each measure's mean, and half of its 95 % interval."""
    cells = {}
    for measure, digits in PLACES.items():
        name, unit, times = MEASURES[measure]
        low, mean = comparisons.mean_interval(times * table[measure])[:2]
        head = _("{name} ({unit})", name=_(name), unit=_(unit))
        cells[head] = f"{mean:.{digits}f} ± {mean - low:.{digits}f}"
    return cells


def difference(one, other, measure):
    """The mean of paired differences in per cent, with its 95 % interval."""
    low, mean, high = comparisons.mean_interval(100 * (other - one)[measure].dropna())
    return _("{mean:+z.1f} ({low:+z.1f} to {high:+z.1f})", mean=mean, low=low, high=high)


def sources():
    """What was run, where, and for how long."""
    about = json.loads((files.PUBLISHED / "manifest.json").read_text(encoding="utf-8"))["studies"]
    rows = [
        {
            N_("study"): study_named(name),
            N_("runs"): one["runs"],
            N_("arms"): one["arms"],
            N_("seconds in all"): f"{one['seconds']:,}",
            N_("device"): listed(one["device"]),
            "PyTorch": listed(one["torch"]),
            N_("date"): listed(filter(None, one["date"])),
        }
        for name, one in about.items()
    ]
    yield pd.DataFrame(rows)


def study_named(name):
    study, recipe = name.split(", recipe ")
    return _("{study}, recipe {recipe}", study=study, recipe=recipe)


def laptop():
    """The course's own runs on two cores."""
    found = [
        r for r in runs.load_all(files.PUBLISHED) if r.study == "depth" and r.recipe == "laptop"
    ]
    final = tables.final_table(found)
    by_arm = tables.arm_table(final)
    found.sort(key=lambda r: r.model["n_layers"])
    title = _("On a laptop: {found}", found=finding(found, "validation_loss"))
    yield figures.ablation_bars(by_arm, final, yardstick(), title=title)
    yield verdicts(found, "validation_loss")
    seconds = final.groupby("n_layers")["elapsed_s"].mean()
    shares = " : ".join(f"{one:.1f}" for one in seconds / seconds.iloc[0])
    yield _(
        "Their times are as {shares}: on two cores a layer costs its share, on a GPU less.",
        shares=shares,
    )


def each(names, passage):
    """The passage for each of these studies."""
    return {name: partial(passage, name) for name in names}


PASSAGES = {  # a word after `{recorded}` -> what gives its figures and tables
    **each(FRAMES, depth),
    **each(("choices-modern", "choices-fair"), choices),
    **each(RATES, rates),
    "verdict": verdict,
    "frames": every_frame,
    "budgets": budgets,
    "places": partial(places, "depth"),
    "optimizers": optimizers,
    "data": data,
    "samples": samples,
    "sources": sources,
    "laptop": laptop,
}
