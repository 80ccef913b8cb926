"""Pictures of the recorded study: what a choice changes, which rate is best, what data buys."""

import numpy as np

from course_utils.figures.drawing import (
    BLUE,
    GREY,
    RUST,
    SMALL,
    explain,
    head,
    list_down,
    looks,
    open_figure,
    padded,
)
from course_utils.figures.labels import End, name_ends
from course_utils.figures.words import LOSS, translated, with_minus
from course_utils.messages import N_

BETTER = BLUE
WORSE = RUST
DIFFERENCE = N_("difference of the loss (nats/character): left is better")


def effect_ranking(effects, language=None, note="", title=""):
    """What each arm changes against the reference, with its 95 % interval, the best on top.

    effects: rows with arm, difference, low, high (nats/character), clear. Filled marks are clear
    after correction for the number of arms, open ones are not. What lies far outside the middle of
    the field is an arrow at the edge.
    """
    rows = effects.sort_values("difference", ignore_index=True)
    names = [translated(arm, language) for arm in rows["arm"]]
    low, high = edges(rows)
    with open_figure(1.65 + 0.24 * len(rows), language, note) as (figure, say):
        axes = figure.subplots()
        axes.axvline(0, color=GREY, lw=0.8)
        for row, arm in enumerate(rows.itertuples()):
            draw_effect(axes, row, arm, low, high)
        list_down(axes, names, top=0.6)
        axes.tick_params(axis="y", labelsize=SMALL)
        margin = 0.04 * (high - low)
        axes.set_xlim(low - margin, high + margin)
        axes.locator_params(axis="x", nbins=5)
        lines = (
            say(DIFFERENCE),
            say("filled: clear after correction · open: not"),
            say("arrow: off the range"),
        )
        axes.set_xlabel("\n".join(lines))
        head(figure, title or say("What each choice changes"))
        figure.set_label(ranking_in_words(names, rows, say))
    return figure


def edges(rows):
    """The range that shows most arms: four times the middle half's width beyond it, and 0."""
    first, third = np.percentile(rows["difference"], [25, 75])
    reach = 4 * max(third - first, 1e-3)
    shown = rows[rows["difference"].between(first - reach, third + reach)]
    return min(0, shown["low"].min()), max(0, shown["high"].max())


def draw_effect(axes, row, arm, low, high):
    """One arm: its interval and mark, or an arrow where it lies beyond low … high; its number."""
    color = BETTER if arm.difference < 0 else WORSE
    if arm.difference < low:
        axes.plot(low, row, "<", color=color, label=arm.arm)
    elif arm.difference > high:
        axes.plot(high, row, ">", color=color, label=arm.arm)
    else:
        interval = np.clip([arm.low, arm.high], low, high)
        axes.plot(interval, [row, row], color=color, label=f"{arm.arm} interval")
        look = {"marker": "o", "mfc": color} if arm.clear else {"marker": "D", "mfc": "white"}
        axes.plot(arm.difference, row, color=color, ms=5, label=arm.arm, **look)
    at = {"xycoords": ("axes fraction", "data"), "va": "center"}
    number = with_minus(f"{arm.difference:+z.3f}")
    axes.annotate(number, (1.01, row), fontsize=SMALL, color=color, **at)


def ranking_in_words(names, rows, say):
    """The alt text of a ranking."""
    words = say("Difference of the loss in nats/character, best first: {}.")
    listed = (
        f"{name} {arm.difference:+z.3f} ({arm.low:+z.3f} … {arm.high:+z.3f})"
        for name, arm in zip(names, rows.itertuples(), strict=True)
    )
    return words.format("; ".join(listed))


def pairing(table, language=None, note="", title=""):
    """What pairing gains: the width of the paired interval over the unpaired one's, against r.

    table: rows with family, r, ratio, a comparison each; pairs (seeds), and at_zero, the ratio that
    theory gives to so many pairs of one spread without correlation: the lines go through it.
    """
    r = np.linspace(-1, 1, 200)
    with open_figure(4.2, language, note) as (figure, say):
        axes = figure.subplots()
        axes.axhline(1, color=GREY, lw=0.8)
        ends = sorted({table["pairs"].min(), table["pairs"].max()})
        for pairs in ends:
            wider = table.loc[table["pairs"] == pairs, "at_zero"].iloc[0]
            line = {"color": GREY, "lw": 0.8, "ls": "--", "label": f"{pairs} pairs"}
            axes.plot(r, wider * np.sqrt(1 - r), **line)
        for family, look in looks(table["family"]).items():
            of = table[table["family"] == family]
            name = translated(family, language)
            axes.plot(of["r"], of["ratio"], **look, lw=0, ms=6, label=name)
        axes.set(xlim=(-1, 1), ylim=(0, 1.8))
        axes.set_xlabel(say("correlation of the pairs, r"))
        widths = say("paired interval ÷ unpaired interval")
        axes.set_ylabel(widths)
        handles, names = axes.get_legend_handles_labels()
        shown = [i for i, name in enumerate(names) if not name.endswith(" pairs")]
        axes.legend([handles[i] for i in shown], [names[i] for i in shown], loc="lower left")
        explain(
            axes,
            say(
                "below 1: pairing narrows the interval · dashed: theory, {} pairs of one spread"
            ).format(say("pairing| and ").join(map(str, ends))),
        )
        head(figure, title or say("What pairing gains"))
        figure.set_label(pairing_in_words(table, language, say))
    return figure


def pairing_in_words(table, language, say):
    """The alt text of what pairing gains."""
    words = say("Correlation of pairs, and width of the paired interval over the unpaired: {}.")
    listed = (
        f"{translated(family, language)} {of['r'].mean():+z.2f}, {of['ratio'].mean():.2f}"
        for family, of in table.groupby("family", sort=False)
    )
    return words.format("; ".join(listed))


def twins(table, language=None, note="", title=""):
    """Runs against twins that share a part of their luck: a panel a part, a mark a pair.

    table: rows with changed, what the twin has another of; group, the arm; one, other (nats per
    character), each from its arm's mean.
    """
    parts = table.groupby("changed", sort=False)
    with open_figure(3.9, language, note) as (figure, say):
        panels = figure.subplots(1, len(parts), sharex=True, sharey=True)
        reach = 1.1 * table[["one", "other"]].abs().to_numpy().max()
        styles = looks(table["group"])
        for axes, (changed, pairs) in zip(panels, parts, strict=True):
            axes.plot([-reach, reach], [-reach, reach], color=GREY, lw=0.8, ls="--", label="equal")
            for group, of in pairs.groupby("group", sort=False):
                name = translated(group, language)
                axes.plot(of["one"], of["other"], **styles[group], lw=0, ms=6, label=name)
            axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
            a_run = say("a run, from the mean (nats/char.)")
            axes.set_xlabel(a_run)
            r = with_minus(f"{pairs['one'].corr(pairs['other']):.2f}")
            explain(axes, f"{translated(changed, language)}: r = {r}")
        panels[0].set_ylabel(say("its twin (nats/char.)"))
        handles, names = panels[0].get_legend_handles_labels()
        panels[0].legend(handles[1:], names[1:], loc="upper left")
        head(figure, title or say("What of a seed's luck is shared"))
        figure.set_label(twins_in_words(parts, language, say))
    return figure


def twins_in_words(parts, language, say):
    """The alt text of runs and their twins."""
    words = say("Correlation of runs and their twins: {}.")
    listed = (
        f"{translated(changed, language)} {of['one'].corr(of['other']):+z.2f}"
        for changed, of in parts
    )
    return words.format("; ".join(listed))


def rate_sweep(table, language=None, note="", title=""):
    """Loss by learning rate, a line a depth, a bar over its seeds; the best rate of each is marked.

    table: rows with arm, learning_rate, choosing_loss, the mean, low, high, and best.
    """
    rates = sorted(table["learning_rate"].unique())
    styles = looks(table["arm"])
    losses = table["choosing_loss"]
    with open_figure(4.2, language, note) as (figure, say):
        axes = figure.subplots()
        axes.set(xscale="log", xlim=(rates[0] / 1.15, rates[-1] * 1.05))
        axes.set_ylim(padded(np.minimum(losses, losses.median() + 0.35)))
        ends = []
        for arm, line in table.groupby("arm", sort=False):
            look = styles[arm]
            best = draw_sweep(axes, arm, line.sort_values("learning_rate"), look)
            x, y = last_inside(line.sort_values("learning_rate"), axes.get_ylim()[1])
            name = say("{}, best {:.3f}").format(translated(arm, language), best)
            ends.append(End(x, y, name, look["color"]))
        name_ends(axes, ends)
        axes.set_xticks(rates, [f"{1e3 * rate:g}" for rate in rates])
        axes.minorticks_off()
        rate = say("peak learning rate of AdamW (thousandths)")
        loss = say("loss, choosing half (nats/character)")
        axes.set(xlabel=rate, ylabel=loss)
        keys = [say("circle and number: the best of each depth")]
        if (table["low"] < table["high"]).any():
            keys.append(say("bars: from the best seed to the worst"))
        explain(axes, *keys)
        words = say("Loss by learning rate, depth by depth")
        head(figure, title or words)
        figure.set_label(sweep_in_words(table[table["best"]], language, say))
    return figure


def draw_sweep(axes, arm, line, look):
    """One depth's losses over the rates, a ring around the best. -> the best loss"""
    axes.plot(line["learning_rate"], line["choosing_loss"], **look, ms=4, label=arm)
    axes.vlines(line["learning_rate"], line["low"], line["high"], color=look["color"], label=arm)
    best = line[line["best"]].iloc[0]
    ring = {"color": look["color"], "mfc": "none", "ms": 12, "lw": 0, "label": f"{arm} best"}
    axes.plot(best["learning_rate"], best["choosing_loss"], "o", **ring)
    return best["choosing_loss"]


def last_inside(line, top):
    """Where a line on a logarithmic x axis ends, or leaves the axes through the top for good."""
    x = np.log(line["learning_rate"].to_numpy())
    y = line["choosing_loss"].to_numpy()
    inside = np.flatnonzero(y <= top)[-1]
    if inside == len(x) - 1:
        return np.exp(x[-1]), y[-1]
    share = (top - y[inside]) / (y[inside + 1] - y[inside])
    return np.exp(x[inside] + share * (x[inside + 1] - x[inside])), top


def sweep_in_words(chosen, language, say):
    """The alt text of a sweep. chosen: the rows of the best rates."""
    words = say("Best learning rate and its loss: {}.")
    listed = (
        f"{translated(row.arm, language)} {row.learning_rate:g}: {row.choosing_loss:.3f}"
        for row in chosen.itertuples()
    )
    return words.format("; ".join(listed))


def data_scaling(table, language=None, note="", title=""):
    """Loss by share of the training text, a line a depth with 95 % intervals.

    table: rows with arm, share (0 … 1), loss, low, high.
    """
    shares = sorted(table["share"].unique())
    with open_figure(4, language, note) as (figure, say):
        axes = figure.subplots()
        axes.set(xscale="log", xlim=(shares[0] / 1.1, shares[-1] * 1.02))
        draw_with_intervals(
            axes,
            table,
            by="arm",
            x="share",
            named=lambda last: f"{translated(last['arm'], language)} {last['loss']:.3f}",
        )
        axes.set_xticks(shares, [f"{share:.0%}" for share in shares])
        axes.minorticks_off()
        axes.set(xlabel=say("share of the training text"), ylabel=say(LOSS))
        explain(axes, say("data scaling|line: 95 % interval"))
        head(figure, title or say("What more text buys"))
        figure.set_label(scaling_in_words(table, language, say))
    return figure


def draw_with_intervals(axes, table, by, x, named):
    """A line for each value of a column, upright 95 % intervals on it, and at its end its name.

    table: rows with the columns by and x, loss, low, high. named(row): the name, from the last one.
    """
    styles = looks(table[by])
    axes.set_ylim(padded(table[["loss", "low", "high"]]))
    ends = []
    for label, line in table.groupby(by, sort=False):
        look = styles[label]
        line = line.sort_values(x)
        axes.plot(line[x], line["loss"], **look, ms=5, label=label)
        axes.vlines(line[x], line["low"], line["high"], color=look["color"], lw=1.5)
        last = line.iloc[-1]
        ends.append(End(last[x], last["loss"], named(last), look["color"]))
    name_ends(axes, ends)


def scaling_in_words(table, language, say):
    """The alt text of losses by share of the text."""
    words = say("Loss by share of the text: {}.")
    listed = (
        f"{translated(row.arm, language)}, {row.share:.0%}: {row.loss:.3f}"
        for row in table.itertuples()
    )
    return words.format("; ".join(listed))


def depth_in_frames(table, language=None, note="", title="", loss=LOSS):
    """Loss by depth, a line a way of comparing, each with its 95 % intervals.

    table: rows with frame, n_layers, loss, low, high (nats/character). loss: whose, in words.
    """
    depths = sorted(table["n_layers"].unique())
    with open_figure(4.2, language, note) as (figure, say):
        axes = figure.subplots()
        axes.set(xscale="log", xlim=(depths[0] / 1.05, depths[-1] * 1.05))
        draw_with_intervals(
            axes,
            table,
            by="frame",
            x="n_layers",
            named=lambda last: translated(last["frame"], language),
        )
        axes.set_xticks(depths, depths)
        axes.minorticks_off()
        axes.set(xlabel=say("layers"), ylabel=say(loss))
        explain(axes, say("upright: 95 % interval"))
        head(figure, title or say("What depth buys, frame by frame"))
        figure.set_label(frames_in_words(table, language, say))
    return figure


def frames_in_words(table, language, say):
    """The alt text of losses by depth in several frames."""
    words = say("Loss by number of layers: {}.")
    listed = []
    for frame, line in table.groupby("frame", sort=False):
        reached = ", ".join(f"{row.n_layers} {row.loss:.3f}" for row in line.itertuples())
        listed.append(f"{translated(frame, language)}: {reached}")
    return words.format("; ".join(listed))
