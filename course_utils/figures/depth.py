"""Pictures of what depth costs and of what a judge says: loss by arithmetic, measures by model."""

import numpy as np
from matplotlib.ticker import NullFormatter, NullLocator

from course_utils.figures.drawing import (
    BLUE,
    GREY,
    explain,
    head,
    list_down,
    open_figure,
    padded,
)
from course_utils.figures.effects import draw_with_intervals
from course_utils.figures.words import UNTOUCHED, translated
from course_utils.messages import N_

PRICES = {  # a column -> what is drawn of it, and how many of the column's units one of those is
    "steps": (N_("training steps"), 1),
    "flops": (N_("arithmetic (10¹⁴ FLOPs)"), 1e14),
    "gpu_s": (N_("time on a GPU (s)"), 1),
    "cpu_s": (N_("time on a CPU core (minutes)"), 60),
}


def frontier(table, language=None, note="", title=""):
    """Loss by what training costs: a panel a price, a line a depth, a mark a length of training.

    table: rows with n_layers, loss, low, high (nats/character); for each of PRICES its amount, and
    NAME_best, whether nothing that costs no more is better: those have a ring.
    """
    with open_figure(6.4, language, note) as (figure, say):
        panels = figure.subplots(2, 2, sharey=True)
        for axes, price in zip(panels.flat, PRICES, strict=True):
            draw_price(axes, table, price, say)
        for axes in panels[:, 0]:
            axes.set_ylabel(say(UNTOUCHED).replace(" (", "\n(").replace("（", "\n（"))
        numbers = say("number: layers · upright: 95 % interval")
        rings = say("ring: nothing cheaper is better")
        for axes, words in zip(panels[0], (numbers, rings), strict=True):
            explain(axes, words, loc="left")
        head(figure, title or say("What the same price buys"))
        figure.set_label(frontier_in_words(table, language, say))
    return figure


def draw_price(axes, table, price, say):
    """One panel: the losses by one price, those ringed that nothing cheaper beats."""
    label, unit = PRICES[price]
    table = table.assign(price=table[price] / unit)
    axes.set(xscale="log", xlabel=say(label))
    axes.set_xlim(table["price"].min() / 1.15, table["price"].max() * 1.15)
    draw_with_intervals(
        axes, table, by="n_layers", x="price", named=lambda last: f"{last['n_layers']:.0f}"
    )
    best = table[table[f"{price}_best"]]
    ring = {"color": GREY, "mfc": "none", "ms": 11, "lw": 0}
    axes.plot(best["price"], best["loss"], "o", label=f"{price} best", **ring)
    if price == "steps":
        axes.set_xticks(table["price"].unique())
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set(major_formatter="{x:,g}", minor_formatter=NullFormatter())


def frontier_in_words(table, language, say):
    """The alt text of the frontier: by each price, what nothing cheaper beats."""
    words = say("Loss by what training costs. Beaten by nothing cheaper, {}.")
    listed = []
    for price, (label, _) in PRICES.items():
        best = table[table[f"{price}_best"]].sort_values(price)
        ways = (
            f"{translated(layers_of(row), language)}, "
            f"{translated(f'{row.steps:,} steps', language)} {row.loss:.3f}"
            for row in best.itertuples()
        )
        listed.append(f"{say(label)}: {'; '.join(ways)}")
    return words.format(" · ".join(listed))


def layers_of(row):
    return "1 layer" if row.n_layers == 1 else f"{row.n_layers} layers"


MEASURED = {  # a column, low and high with it -> what it is
    "plausibility": N_("loss under the judge\n(nats/character)"),
    "coherence": N_("gain from its own past\n(nats/character)"),
}


def judged(table, language=None, note="", title=""):
    """What a judge makes of each writer's texts: plausibility and coherence, with 95 % intervals.

    table: rows with arm, and for each measure in MEASURED its mean, NAME_low and NAME_high; the
    last row is the human one, whose interval is a band behind all.
    """
    names = [translated(arm, language) for arm in table["arm"]]
    human = table.iloc[-1]
    with open_figure(1.7 + 0.36 * len(names), language, note) as (figure, say):
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (measure, label) in zip(panels, MEASURED.items(), strict=True):
            low, high = table[f"{measure}_low"], table[f"{measure}_high"]
            axes.axvspan(human[f"{measure}_low"], human[f"{measure}_high"], color="#e4e4e4")
            for row, (arm, left, right, mean) in enumerate(
                zip(table["arm"], low, high, table[measure], strict=True)
            ):
                axes.plot([left, right], [row, row], color=BLUE, label=f"{arm} interval")
                axes.plot(mean, row, "o", color=BLUE, ms=5, label=arm)
            axes.set_xlim(padded(np.concatenate([low, high])))
            axes.set_xlabel(say(label))
            axes.grid(visible=False, axis="y")
        list_down(panels[0], names, top=0.6)
        explain(panels[0], say("line: 95 % interval"), loc="left")
        explain(panels[1], say("grey: human text"), loc="left")
        head(figure, title or say("What a judge makes of the texts"))
        figure.set_label(judged_in_words(table, names, say))
    return figure


def judged_in_words(table, names, say):
    """The alt text of what the judge says."""
    words = say("Loss under the judge and gain from its own past, in nats/character: {}.")
    listed = (
        f"{name} {row.plausibility:.3f}, {row.coherence:+z.3f}"
        for name, row in zip(names, table.itertuples(), strict=True)
    )
    return words.format("; ".join(listed))
