"""Pictures of numbers: losses beside each other, grids, lines."""

import math

import numpy as np
from matplotlib.ticker import MaxNLocator, NullFormatter

from course_utils.figures.drawing import (
    GREY,
    SMALL,
    draw_baselines,
    drawable,
    ends_of,
    head,
    label_ends,
    looks,
    make_room,
    name,
    open_figure,
    padded,
    visible,
    width,
)


def loss_bars(losses, language="english", note="", title=""):
    """Losses from worst to best, each with its perplexity. losses: name -> nats/character."""
    labels = [name(label, language) for label in losses]
    values = np.array(list(losses.values()), float)
    with open_figure(1.1 + 0.34 * len(values), language, note) as (figure, say):
        axes, rows = figure.subplots(), np.argsort(-values, kind="stable")
        perplexity = say("{:.3f}  (perplexity {:.1f})", "{:.3f}（困惑度 {:.1f}）")
        for row, i in enumerate(rows):
            axes.hlines(row, 0, values[i], color="#00688a", lw=1.5)
            axes.plot(values[i], row, "o", color="#00688a", label=list(losses)[i])
            text = perplexity.format(values[i], np.exp(values[i]))
            axes.annotate(
                text,
                (values[i], row),
                (7, 0),
                textcoords="offset points",
                va="center",
                fontsize=SMALL,
            )
        axes.set_yticks(range(len(values)), [labels[i] for i in rows])
        axes.set(
            xlim=(0, 1.45 * values.max()),
            ylim=(len(values) - 0.5, -0.5),
            xlabel=say("loss (nats/character)", "损失（奈特/字符）"),
        )
        axes.grid(visible=False, axis="y")
        head(figure, title)
        listed = ", ".join(f"{labels[i]} {values[i]:.3f}" for i in rows)
        figure.set_label(
            say(
                "Loss in nats/character, worst first: {}.", "损失（奈特/字符），从差到好：{}。"
            ).format(listed)
        )
    return figure


def heatmaps(
    matrices,
    rows=None,
    columns=None,
    titles=(),
    labels=("", "", ""),
    language="english",
    note="",
    title="",
):
    """Grids of numbers on one colour scale, a panel each; nan and infinities (masked places) are hatched.

    matrices: (R, C) or (N, R, C) array. rows, columns: R and C labels, such as characters; without them, positions.
    labels: what rows, columns and values are, with units. A single small grid shows its numbers too.
    """
    matrices = np.asarray(matrices, float)
    matrices = np.ma.masked_invalid(matrices[None] if matrices.ndim == 2 else matrices)
    n, n_rows, n_columns = matrices.shape
    across = {1: 1, 2: 2, 4: 2}.get(n, 3 if n < 7 else 4)
    down, shape = -(-n // across), n_rows / n_columns
    wide = (5.7 if across < 3 else 6.3) / across
    high = min(wide * np.clip(shape, 0.3, 1.5), 3.8)
    low, top = matrices.min(), matrices.max()
    with open_figure(0.6 + down * (high + 0.25) + 0.6 * (across > 2), language, note) as (
        figure,
        say,
    ):
        figure.set_layout_engine("compressed")  # keeps square grids together
        panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for i, axes in enumerate(panels.flat):
            axes.tick_params(length=0, labelsize=9)
            axes.grid(visible=False)
            if i >= n:
                axes.axis("off")
                continue
            axes.patch.set(facecolor="#eeeeee", edgecolor="#bbbbbb", hatch="////")
            aspect = "equal" if 0.3 <= shape <= 1.5 else "auto"
            image = axes.imshow(matrices[i], aspect=aspect, vmin=low, vmax=top, label=f"panel {i}")
            axes.set_title(drawable(titles[i]) if i < len(titles) else "")
        sides = (axes.yaxis, rows, n_rows, 72 * high), (axes.xaxis, columns, n_columns, 72 * wide)
        for axis, names, count, points in sides:
            names = [visible(label) for label in (range(count) if names is None else names)]
            longest = max(map(width, names)) if axis is axes.xaxis else 1
            places = range(
                0, count, math.ceil(count * max(9.3, 6.5 * longest) / points)
            )  # no label on another
            axis.set_ticks(places, [names[place] for place in places])
        if n == 1 and matrices.size <= 100:
            for (_, row, column), value in np.ndenumerate(matrices):
                color = "black" if value > (low + top) / 2 else "white"
                if np.isfinite(value):
                    axes.text(
                        column,
                        row,
                        f"{value:.2f}",
                        ha="center",
                        va="center",
                        fontsize=SMALL,
                        color=color,
                    )
        for axes in panels[:, 0]:
            axes.set_ylabel(drawable(labels[0]))
        for axes in panels[-1]:
            axes.set_xlabel(drawable(labels[1]))
        bar = (
            {"location": "bottom", "aspect": 40, "shrink": 0.6}
            if across > 2
            else {"location": "right"}
        )
        figure.colorbar(image, ax=panels, label=drawable(labels[2]), pad=0.02, **bar)
        head(figure, title)
        what = " · ".join(str(part) for part in (title, *titles, labels[2]) if part != "") or say(
            "values", "数值"
        )
        alt = say(
            "{} grid(s) of {} by {}: {}, {:.3g} to {:.3g}.",
            "{} 个 {} 行 {} 列的热图：{}，{:.3g} 至 {:.3g}。",
        )
        figure.set_label(alt.format(n, n_rows, n_columns, what, low, top))
    return figure


def lines(
    x,
    series,
    x_label,
    y_label,
    baselines=None,
    log_x=False,
    low=None,
    language="english",
    note="",
    title="",
):
    """Lines over steps or positions, each named at its end. x: (N,), series: label -> (N,); labels with units.

    low: where the y axis begins, such as 0 where shares are compared; by default a little below the lines.
    """
    styles, x = looks(series), np.asarray(x, float)
    with open_figure(3.8, language, note) as (figure, say):
        axes, ends, told = figure.subplots(), [], []
        axes.set(xscale="log" if log_x else "linear", xlim=ends_of(x))
        if log_x:
            axes.xaxis.set(major_formatter="{x:g}", minor_formatter=NullFormatter())
        elif (x == x.round()).all():
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(
            padded(np.concatenate([np.asarray(y, float) for y in series.values()]), baselines)
        )
        axes.set_ylim(bottom=low)
        for label, y in series.items():
            y, look = np.asarray(y, float), styles[label]
            axes.plot(x, y, **look, markevery=0.15, ms=5, lw=1.6, label=label)
            first, last = np.flatnonzero(np.isfinite(y))[[0, -1]]
            ends.append((x[last], y[last], name(label, language), look["color"]))
            told.append(
                say("{}: from {:.3g} to {:.3g}", "{}：从 {:.3g} 到 {:.3g}").format(
                    label, y[first], y[last]
                )
            )
        inside, outside = draw_baselines(axes.axhline, axes.get_ylim(), baselines, language)
        ends += [(x.max(), value, text, GREY) for value, text in inside]
        make_room(axes, ends)
        label_ends(axes, ends)
        axes.set_title("".join(outside), fontsize=SMALL, color=GREY)
        axes.set(xlabel=drawable(x_label), ylabel=drawable(y_label))
        head(figure, title)
        figure.set_label(f"{y_label} · {x_label} · {'; '.join(told)}")
    return figure
