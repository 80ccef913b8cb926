"""Pictures of what depth costs and of what a judge says: loss by arithmetic, measures by model."""

import numpy as np
from matplotlib.ticker import NullFormatter

from course_utils.figures.drawing import (
    BLUE,
    GREY,
    SMALL,
    explain,
    head,
    list_down,
    looks,
    open_figure,
    padded,
)
from course_utils.figures.effects import draw_with_intervals
from course_utils.figures.labels import BACK
from course_utils.figures.words import UNTOUCHED, translated


def frontier(table, language=None, note="", title=""):
    """Loss by the arithmetic of training, a line a length of training, a mark a depth.

    table: rows with frame, n_layers, flops, loss, low, high (nats/character); cheapest, whether
    nothing that costs less is better: those have a ring.
    """
    colors = {frame: look["color"] for frame, look in looks(table["frame"]).items()}
    with open_figure(4.6, language, note) as (figure, say):
        axes = figure.subplots()
        axes.set(xscale="log", xlim=(table["flops"].min() / 1.3, table["flops"].max() * 1.3))
        draw_with_intervals(
            axes,
            table,
            by="frame",
            x="flops",
            named=lambda last: translated(last["frame"], language),
        )
        draw_numbers(axes, table, colors)
        best = table[table["cheapest"]].sort_values("flops")
        ring = {"color": GREY, "mfc": "none", "ms": 12, "lw": 0}
        axes.plot(best["flops"], best["loss"], "o", label="cheapest", **ring)
        axes.xaxis.set(
            major_formatter=lambda x, _: f"{x / 1e14:g}", minor_formatter=NullFormatter()
        )
        cost = say("training (10¹⁴ FLOPs)", "训练计算量（10¹⁴ FLOPs）")
        axes.set(xlabel=cost, ylabel=say(*UNTOUCHED))
        explain(
            axes,
            say(
                "number: layers · ring: nothing cheaper is better · upright: 95 % interval",
                "数字：层数 · 圆圈：更便宜的都不如它 · 竖线：95% 置信区间",
            ),
        )
        words = say("What the same arithmetic buys", "同样的计算量能换来什么")
        head(figure, title or words)
        figure.set_label(frontier_in_words(best, language, say))
    return figure


SIDES = [(0, 9), (0, -18), (-12, -9)]  # of a mark, where its number may stand; points


def draw_numbers(axes, table, colors):
    """Each mark's number of layers, on the side that has the most room."""
    in_points = 72 / axes.figure.dpi
    marks = axes.transData.transform(table[["flops", "loss"]].to_numpy()) * in_points
    halfway = (marks[1:] + marks[:-1]) / 2  # on the lines, and a few where there is none
    around = np.concatenate([marks, halfway])
    for row, mark in zip(table.itertuples(), marks, strict=True):
        sides = np.array(SIDES)
        middles = mark + sides + [0, SMALL / 2]  # of the number, on each side
        distances = np.hypot(*(around - middles[:, None]).T)  # (what is around, sides)
        room = np.sort(distances, axis=0)[:2].sum(axis=0).clip(max=60)
        how = {"color": colors[row.frame], "fontsize": SMALL, "ha": "center", "bbox": BACK}
        side = SIDES[room.argmax()]
        place = (row.flops, row.loss)
        axes.annotate(f"{row.n_layers}", place, side, textcoords="offset points", **how)


def frontier_in_words(best, language, say):
    """The alt text of the frontier: the rows that nothing cheaper beats."""
    words = say(
        "Loss by training FLOPs. Beaten by nothing cheaper: {}.",
        "损失与训练计算量。更便宜的都不如它们：{}。",
    )
    listed = (
        f"{translated(row.frame, language)}, {translated(layers_of(row), language)} {row.loss:.3f}"
        for row in best.itertuples()
    )
    return words.format("; ".join(listed))


def layers_of(row):
    return "1 layer" if row.n_layers == 1 else f"{row.n_layers} layers"


MEASURED = {  # a column, low and high with it -> what it is
    "plausibility": ("loss under the judge\n(nats/character)", "评判模型下的损失\n（奈特/字符）"),
    "coherence": ("gain from its own past\n(nats/character)", "自身上文的增益\n（奈特/字符）"),
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
            axes.set_xlabel(say(*label))
            axes.grid(visible=False, axis="y")
        list_down(panels[0], names, top=0.6)
        explain(panels[0], say("line: 95 % interval", "横线：95% 置信区间"), loc="left")
        explain(panels[1], say("grey: human text", "灰：真人原文"), loc="left")
        head(figure, title or say("What a judge makes of the texts", "评判模型如何看这些文本"))
        figure.set_label(judged_in_words(table, names, say))
    return figure


def judged_in_words(table, names, say):
    """The alt text of what the judge says."""
    words = say(
        "Loss under the judge and gain from its own past, in nats/character: {}.",
        "评判模型下的损失与自身上文的增益（奈特/字符）：{}。",
    )
    listed = (
        f"{name} {row.plausibility:.3f}, {row.coherence:+z.3f}"
        for name, row in zip(names, table.itertuples(), strict=True)
    )
    return words.format("; ".join(listed))
