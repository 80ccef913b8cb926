"""The study's second edition for the page of results: depth as a scale, whole plays, the judge."""

import itertools
import json
from functools import cache

import pandas as pd
import torch
from course_playground import models
from course_study import (
    FRAMES,
    HEADLINES,
    by_depth,
    depth_named,
    depths_of,
    in_turn,
    length_named,
    listed,
    mean_of,
    means_by_depth,
    missing,
    of_depth,
    of_step,
    on_the_plays,
    span,
    whose,
)

from course_utils import corpus, figures, files
from course_utils.figures.words import UNTOUCHED
from course_utils.generation import quality
from course_utils.lessons.data import split
from course_utils.messages import N_, _
from course_utils.messages.names import translated
from course_utils.research import comparisons, mechanism, recorded, scaling, studies, tables
from course_utils.training import checkpoints

TEXTS = {  # a record's loss -> the text that it is of
    "reporting_loss": N_("second half"),
    "validation_loss": N_("whole split"),
    "untouched_loss": N_("untouched plays"),
}
NO_LAW = N_("no such law")
SMALL = 0.01  # nats/character: the difference that should be seen


@cache
def lengths():
    """steps -> the runs that report depth at that length"""
    return {steps: of_depth(f"depth-{steps}") for steps in studies.BUDGETS}


# --- over all depths -----------------------------------------------------------------------------
def scale():
    """Over all depths at once: the power law's exponent, what a doubling changes, 12 against 6."""
    first = _("{length}, six other seeds", length=length_named(1200))
    every = {first: of_depth("depth-fair")}
    every |= {length_named(steps): found for steps, found in lengths().items()}
    rows = [
        scale_row(length, found, measure)
        for length, found in every.items()
        for measure in TEXTS
        if found[0].untouched or measure != "untouched_loss"
    ]
    laws = [
        _(
            "{exponent} on the {text} with {length}",
            exponent=row["exponent"],
            text=row["text"],
            length=row["training"],
        )
        for row in rows
        if row["exponent"] != _(NO_LAW)
    ]
    yield _(
        "A power law fits in {n} of {all} cases; the exponents are {exponents}.",
        n=len(laws),
        all=len(rows),
        exponents=in_turn(laws),
    )
    plays = TEXTS["untouched_loss"]
    changes = [
        _("{change} with {length}", change=row["a doubling, 6 to 12"], length=row["training"])
        for row in rows
        if row["text"] == _(plays)
    ]
    yield _(
        "From 6 layers on, a doubling changes the loss on the plays by {changes}.",
        changes=in_turn(changes),
    )
    yield pd.DataFrame(rows)


def scale_row(length, found, measure):
    losses = scaling.by_depth(found, measure)
    low, exponent, high = scaling.depth_exponent(losses)
    deep = {n: of for n, of in losses.items() if n >= 6}
    one = comparisons.compare("12", losses[12], "6", losses[6])
    law = span(low, exponent, high, "{:.2f}") if exponent == exponent else _(NO_LAW)
    return {
        N_("training"): length,
        N_("text"): _(TEXTS[measure]),
        N_("exponent"): law,
        N_("a doubling, 1 to 12"): span(*scaling.per_doubling(losses)),
        N_("a doubling, 6 to 12"): span(*scaling.per_doubling(deep)),
        "12 − 6": span(one.low, one.difference, one.high),
    }


def power():
    """How far the seeds lie apart, what they can see, and how many it takes to see SMALL."""
    rows = []
    needed = _("seeds to see it in {power:.0%}", power=scaling.POWER)
    texts = ("reporting_loss", "untouched_loss")
    for (steps, found), measure in itertools.product(lengths().items(), texts):
        losses = scaling.by_depth(found, measure)
        for other, one in itertools.pairwise(n for n in losses if n > 1):
            spread, pairs = scaling.spread_of(losses[one], losses[other])
            seen = scaling.power_of(SMALL, spread, pairs)
            rows.append(
                {
                    N_("comparison"): _(
                        "{frame}: {found}", frame=length_named(steps), found=f"{one} − {other}"
                    ),
                    N_("text"): _(TEXTS[measure]),
                    N_("spread of a seed's difference"): f"{spread:.4f}",
                    N_("seeds"): pairs,
                    _("sees {small} in", small=SMALL): f"{seen:.0%}",
                    needed: scaling.seeds_to_see(SMALL, spread),
                }
            )
    table = pd.DataFrame(rows)
    last = table[table["comparison"].str.endswith("6 − 4")]
    counts = [
        _("{counts} on the {text}", counts=listed(map(str, of[needed])), text=text)
        for text, of in last.groupby("text", sort=False)
    ]
    yield _(
        "To see {small} between four and six layers {power:.0%} of the time takes so many seeds, "
        "at {lengths} steps: {counts}.",
        small=SMALL,
        power=scaling.POWER,
        lengths=listed(f"{steps:,}" for steps in lengths()),
        counts=in_turn(counts),
    )
    yield table


def frontier():
    """Loss on the plays by what training costs: steps, arithmetic, a GPU's seconds, a CPU's."""
    table = prices()
    best = {price: scaling.cheapest(table, price) for price in PRICES}
    for price, rows in best.items():
        table[f"{price}_best"] = table.index.isin(rows.index)
    flops = best["flops"]
    shortest = table["steps"] == table["steps"].min()
    drawn = table[~shortest]
    title = _(
        "{n} of {all} ways to spend arithmetic are beaten by nothing cheaper; the last has {depth}",
        n=drawn["flops_best"].sum(),
        all=len(drawn),
        depth=depth_named(flops["n_layers"].iloc[-1]),
    )
    yield figures.frontier(drawn, title=title)
    low, high = table.loc[shortest, "loss"].agg(["min", "max"])
    yield _(
        "Off the picture, from {low:.2f} to {high:.2f}: {steps} steps. Of each length of training "
        "the lowest mean is that of {best}. Counted in seconds on a GPU (one seed's seconds a step "
        "on an H100, compiled) {on_gpu}; on one core of a CPU (the fastest of a few steps, in the "
        "processor's own time) {on_cpu}.",
        low=low,
        high=high,
        steps=table["steps"].min(),
        best=best_of_each(best["steps"]),
        on_gpu=changes(flops, best["gpu_s"]),
        on_cpu=changes(flops, best["cpu_s"]),
    )
    cells = {
        N_("training"): [name_of(row) for row in table.itertuples()],
        "FLOPs": table["flops"].map("{:.2g}".format),
        N_("seconds on a GPU"): table["gpu_s"].map("{:.1f}".format),
        N_("minutes on a CPU core"): (table["cpu_s"] / 60).map("{:.0f}".format),
        N_("loss, untouched plays"): table["loss"].map("{:.4f}".format),
        N_("nothing cheaper is better"): table.apply(said_to_be_best, axis=1),
    }
    yield pd.DataFrame(cells)


PRICES = {  # of a training, a column -> in a word
    "steps": N_("steps"),
    "flops": "FLOPs",
    "gpu_s": "GPU",
    "cpu_s": "CPU",
}


def prices():
    """A row a depth and length of training: what it costs, and what it loses on the plays."""
    on_gpu = seconds_a_step()
    on_cpu = json.loads(recorded.SECONDS.read_text(encoding="utf-8"))["seconds"]
    return pd.DataFrame(
        {
            "n_layers": n,
            "steps": steps,
            "flops": scaling.training_flops(next(r for r in found if r.arm == arm)),
            "gpu_s": steps * on_gpu[n],
            "cpu_s": steps * min(on_cpu[str(n)]),
            **mean_of(found, arm, "untouched_loss"),
        }
        for steps, found in lengths().items()
        for n, arm in depths_of(found).items()
    )


def best_of_each(best):
    return listed(whose(depth_named(row.n_layers), f"{row.steps:,}") for row in best.itertuples())


def changes(before, after):
    """Which ways come in and which go where another price counts, in words."""
    more = in_turn(map(name_of, after.drop(before.index, errors="ignore").itertuples()))
    less = in_turn(map(name_of, before.drop(after.index, errors="ignore").itertuples()))
    if more and less:
        return _("{more} come in and {less} go", more=more, less=less)
    if more:
        return _("{more} come in", more=more)
    if less:
        return _("{less} go", less=less)
    return _("the same ways are beaten by nothing cheaper")


def said_to_be_best(row):
    """By which prices this way is beaten by nothing cheaper."""
    return listed(_(word) for price, word in PRICES.items() if row[f"{price}_best"])


def name_of(row):
    return _("{depth}, {length}", depth=depth_named(row.n_layers), length=length_named(row.steps))


def seconds_a_step():
    """{number of layers: seconds}, of the runs that had a GPU to themselves, compiled."""
    found = [r for r in recorded.load("depth-fair") if tables.timed(r)]
    return {
        r.model["n_layers"]: (r.elapsed_s - r.evaluating_s) / r.history[-1]["step"] for r in found
    }


# --- whole plays ---------------------------------------------------------------------------------
def whole_plays():
    """What depth buys on more text, drawn as whole plays at random."""
    found = recorded.load("plays")
    frames = {
        text: by_depth(r for r in found if r.draw == draw) for text, draw in studies.DRAWS.items()
    }
    if not all(frames.values()):
        yield missing("plays")
        return
    table = comparisons.in_frames(frames)
    clear = table[(table["untouched_p_holm"] < 0.05) & (table["untouched"] < 0)]
    won = [len(of_step(clear, step)) for step in HEADLINES]
    title = _(
        "On new plays four layers clearly beat two on {four} of {n} sizes of text, six beat four "
        "on {six}",
        four=won[0],
        n=len(frames),
        six=won[1],
    )
    means = means_by_depth(frames, "untouched_loss")
    yield figures.depth_in_frames(means, title=title, loss=UNTOUCHED)

    said = [growth_in_words(frames, *pair) for pair in itertools.pairwise(studies.DEPTHS)]
    yield "\n".join(f"* {sentence}" for sentence in [*said, nearness(frames)])
    yield on_the_plays(frames, table)
    yield missing("plays")


def growth_in_words(frames, shallow, deep):
    """Whether a step in depth buys more on the most text than on the least, seed by seed."""
    gains = {}
    for text in (min(frames, key=size_of), max(frames, key=size_of)):
        losses = scaling.by_depth(frames[text], "untouched_loss")
        pairs = losses[shallow].keys() & losses[deep].keys()
        gains[text] = {seed: losses[deep][seed] - losses[shallow][seed] for seed in pairs}
    (least, before), (most, after) = gains.items()
    one = comparisons.compare(most, after, least, before)
    return _(
        "From {shallow} to {deep} layers, with {most} rather than {least}: {growth} more, p = "
        "{p:.2g}, {seeds} seeds.",
        shallow=shallow,
        deep=deep,
        most=translated(most),
        least=translated(least),
        growth=span(one.low, one.difference, one.high),
        p=one.p,
        seeds=one.pairs,
    )


def nearness(frames):
    """What a million characters are worth on either text: Tiny Shakespeare's own, or drawn."""
    own, own_new, drawn, drawn_new = (
        mean_of(found, depths_of(found)[4], measure)["loss"]
        for found in (lengths()[2400], frames[min(frames, key=size_of)])
        for measure in ("validation_loss", "untouched_loss")
    )
    return _(
        "Of a million characters, with 4 layers and 2,400 steps, Tiny Shakespeare's own give "
        "{own:.3f} on the validation split and {own_new:.3f} on the plays; plays drawn at random "
        "give {drawn:.3f} on the validation split and {drawn_new:.3f} on the plays.",
        own=own,
        own_new=own_new,
        drawn=drawn,
        drawn_new=drawn_new,
    )


def size_of(text):
    return studies.DRAWS[text].characters


# --- what seeds share ----------------------------------------------------------------------------
def families():
    """Comparisons of depths, by what a seed brings: {family: (groups of runs, whose loss)}."""
    drawn = [r for r in recorded.load("plays") if len(r.drawn) < len(studies.TO_DRAW)]
    draws = [draw for draw in studies.DRAWS.values() if any(r.draw == draw for r in drawn)]
    plays = [by_depth(r for r in drawn if r.draw == draw) for draw in draws]
    return {
        "frames": ([of_depth(name) for name in FRAMES], "reporting_loss"),
        "lengths of training": (lengths().values(), "untouched_loss"),
        "draws of whole plays": (plays, "untouched_loss"),
    }


def pairing():
    """Whether it helps to pair by seeds: r, and both intervals; then, what of a seed it is."""
    rows = [
        {"family": family, "text": TEXTS[measure], "pairs": len(losses)}
        | comparisons.pairing(losses, before)
        for family, (groups, measure) in families().items()
        for found in groups
        for before, losses in itertools.pairwise(comparisons.losses_of(found, measure).values())
    ]
    table = pd.DataFrame(rows)
    table["ratio"] = table["paired"] / table["unpaired"]
    by_family = table.groupby("family", sort=False)
    ratios = listed(
        whose(f"{of['ratio'].mean():.2f}", translated(family)) for family, of in by_family
    )
    title = _("A paired interval over an unpaired one, on average: {ratios}", ratios=ratios)
    yield figures.pairing(table, title=title)
    yield pd.DataFrame([family_row(family, of) for family, of in by_family])
    yield from luck()


def family_row(family, of):
    r = of["r"]
    narrower = (of["ratio"] < 1).sum()
    return {
        N_("comparisons of depths"): _("{n} {family}", n=len(of), family=translated(family)),
        N_("text"): _(of["text"].iloc[0]),
        "r": _("{mean:.2f} ({low:.2f} to {high:.2f})", mean=r.mean(), low=r.min(), high=r.max()),
        N_("half a paired interval"): f"{of['paired'].median():.4f}",
        N_("half an unpaired one"): f"{of['unpaired'].median():.4f}",
        N_("paired is narrower"): _("{n} of {all}", n=narrower, all=len(of)),
    }


def luck():
    """What runs keep of their luck with other first weights, and with other batches."""
    found = recorded.load("luck")
    if len(found) < len(studies.LUCK) * len(studies.DEPTHS):
        yield missing("luck")
        return
    pairs = {(part, m): twins(part, found, m) for part in studies.LUCK for m in list(TEXTS)[:2]}
    drawn = [
        of.assign(changed=part, **comparisons.centred(of))
        for (part, measure), of in pairs.items()
        if measure == "validation_loss"
    ]
    weights, batches = map(r_of, drawn)
    title = _(
        "Of runs and twins of the same seed the losses correlate, with other weights {weights:.2f} "
        "and with other batches {batches:.2f} (whole split)",
        weights=weights,
        batches=batches,
    )
    yield figures.twins(pd.concat(drawn), title=title)
    yield pd.DataFrame([luck_row(*key, of) for key, of in pairs.items()])
    yield missing("luck")


def twins(changed, found, measure):
    """Runs of 1,200 steps, and those of the same seeds that differ in a part of their luck alone.

    -> rows with group, one, other
    """
    rows = []
    for r in found:
        depth, words = r.arm.split(", ")
        if words == changed:
            seed = min(r.seed, r.seed + r.weights_offset)
            (own,) = (o for o in lengths()[1200] if (o.arm, o.seed) == (depth, seed))
            pair = {"one": getattr(own, measure), "other": getattr(r, measure)}
            rows.append({"group": depth, **pair})
    return pd.DataFrame(rows)


def r_of(pairs):
    return comparisons.pooled_correlation(pairs)[1]


def luck_row(changed, measure, pairs):
    """How alike the runs of pairs are."""
    difference = comparisons.mean_interval(pairs["other"] - pairs["one"])
    apart = comparisons.centred(pairs)
    degrees = len(pairs) - pairs["group"].nunique()
    spread = ((apart["other"] - apart["one"]).pow(2).sum() / degrees) ** 0.5
    alone = (apart.pow(2).to_numpy().sum() / degrees) ** 0.5  # were the two runs strangers
    what = _("{changed} ({n} pairs)", changed=translated(changed), n=len(pairs))
    return {
        N_("the same seed, but"): what,
        N_("text"): _(TEXTS[measure]),
        N_("mean difference"): span(*difference, "{:+z.4f}"),
        "r": span(*comparisons.pooled_correlation(pairs), "{:.2f}"),
        N_("spread of a pair's difference"): f"{spread:.4f}",
        N_("if nothing were shared"): f"{alone:.4f}",
    }


# --- the judge -----------------------------------------------------------------------------------
SETTINGS = {  # (study, temperature of its texts) -> in words
    ("depth", 1.0): N_("Plain protocol, temperature 1"),
    ("depth", 0.8): N_("Plain protocol, temperature 0.8, top-k 40, top-p 0.95"),
    ("depth-fair", 1.0): N_("Fair rate, temperature 1"),
    ("depth-fair", 0.8): N_("Fair rate, temperature 0.8, top-k 40, top-p 0.95"),
}


def judge():
    """How plausible and how coherent each depth's texts are to a model of other plays."""
    table = pd.read_csv(recorded.JUDGED)
    human = judged_row(quality.HUMAN, table[table["arm"] == quality.HUMAN])
    gains = []
    for number, ((study, temperature), words) in enumerate(SETTINGS.items()):
        texts = table[(table["study"] == study) & (table["temperature"] == temperature)]
        arms = dict(sorted(texts.groupby("arm"), key=lambda one: int(one[0].split()[0])))
        rows = pd.DataFrame([*(judged_row(arm, one) for arm, one in arms.items()), human])
        if number == 0:
            yield figures.judged(rows, title=judged_title(rows))

        steps = [
            _(
                "{deep} minus {shallow} {difference}",
                deep=translated(one.arm),
                shallow=translated(one.other),
                difference=span(one.low, one.difference, one.high),
            )
            for one in apart(arms, "plausibility")
        ]
        yield _(
            "{setting}, loss under the judge, six seeds: {steps}.",
            setting=_(words),
            steps=in_turn(steps),
        )
        gains += apart(arms, "coherence")
        yield pd.DataFrame(
            {
                N_("writer"): rows["arm"].map(translated),
                N_("texts"): rows["texts"],
                N_("loss under the judge"): cells(rows, "plausibility", "{:.3f}"),
                N_("gain from its own past"): cells(rows, "coherence", "{:+z.3f}"),
            }
        )
    yield _(
        "Of {n} steps in depth {seen} change the gain by an amount that can be seen.",
        n=len(gains),
        seen=sum(one.low > 0 or one.high < 0 for one in gains),
    )


def judged_row(arm, texts):
    row = {"arm": arm, "texts": len(texts)}
    for measure in ("plausibility", "coherence"):
        low, mean, high = comparisons.bootstrap_interval(texts[measure])
        row |= {measure: mean, f"{measure}_low": low, f"{measure}_high": high}
    return row


def cells(rows, measure, form):
    ends = [rows[f"{measure}{end}"] for end in ("_low", "", "_high")]
    return [span(*three, form) for three in zip(*ends, strict=True)]


def judged_title(drawn):
    """Whether any writer's interval reaches the human one."""
    human = drawn.iloc[-1]
    below = sum(drawn["coherence_high"] < human["coherence_low"])
    return _(
        "The judge gains {gain:.3f} nats/character from human text's own past; {below} of {n} "
        "depths lie below its interval",
        gain=human["coherence"],
        below=below,
        n=len(drawn) - 1,
    )


def apart(arms, measure):
    """Each depth against the one before, seed by seed: a seed's texts are one observation."""
    by_seed = {arm: texts.groupby("seed")[measure].mean() for arm, texts in arms.items()}
    means = {arm: losses.to_dict() for arm, losses in by_seed.items()}
    return [
        comparisons.compare(arm, means[arm], before, means[before])
        for before, arm in itertools.pairwise(means)
    ]


# --- inside --------------------------------------------------------------------------------------
PROBED = 2048  # held-out characters, of the half that reports


def inside():
    """What goes on in the published models of the plain protocol: a row a depth."""
    text = corpus.load()
    rows = []
    for r in models(files.PUBLISHED):
        model, tokenizer = checkpoints.load_model(r.checkpoint)
        ids = torch.tensor(tokenizer.encode(split(text.text)[1]))
        rows.append(inside_row(model, ids))
    yield "\n".join(
        _(
            "* {model}: {text} on Shakespeare's text, {random} on random characters; leaving out a "
            "layer costs {prices}.",
            model=row["model"],
            text=row["text, first → second copy"],
            random=row["random, first → second copy"],
            prices=row["price of leaving out each layer"],
        )
        for row in rows
    )
    yield pd.DataFrame(rows)
    yield _(
        "Texts of {length} characters, {n} of each kind; the first {cut} of each copy don't count, "
        "as it begins anywhere in a line. Losses and prices in nats/character. By chance alone "
        "{chance:.3f} of a head's attention falls on what came next last time.",
        length=mechanism.HALF,
        n=mechanism.TEXTS,
        cut=mechanism.CUT,
        chance=mechanism.chance(),
    )


def inside_row(model, ids):
    at_random, _ = mechanism.copying(model, mechanism.repeated(model))
    of_text, scores = mechanism.copying(model, mechanism.repeated(model, ids))
    previous, copied = mechanism.best_heads(scores)
    part = ids[len(ids) // 2 :][: PROBED + 1]
    windows = part[:PROBED].view(-1, model.config.context_length)
    return {
        N_("model"): depth_named(model.config.n_layers),
        N_("random, first → second copy"): " → ".join(f"{loss:.2f}" for loss in at_random),
        N_("text, first → second copy"): " → ".join(f"{loss:.2f}" for loss in of_text),
        N_("most on the character before"): "{} {:.2f}".format(*previous),
        N_("most on what came next last time"): "{} {:.3f}".format(*copied),
        N_("price of leaving out each layer"): numbers(mechanism.price_of_layers(model, part)),
        N_("each layer's share of the stream"): numbers(mechanism.shares_of_stream(model, windows)),
    }


def numbers(values):
    return listed(f"{value:.2f}" for value in values)


PASSAGES = {
    "inside": inside,
    "scale": scale,
    "power": power,
    "frontier": frontier,
    "whole-plays": whole_plays,
    "pairing": pairing,
    "judge": judge,
}
