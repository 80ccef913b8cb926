"""Pictures of numbers: losses beside each other, grids, lines."""

import math
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator, NullFormatter

from course_utils.figures.drawing import (
    BLUE,
    SMALL,
    end_at,
    ends_of,
    explain,
    head,
    list_down,
    looks,
    marked,
    open_figure,
    padded,
)
from course_utils.figures.labels import (
    End,
    baseline_ends,
    beside,
    draw_baselines,
    name_ends,
)
from course_utils.figures.words import drawable, translated, visible
from course_utils.messages import N_
from course_utils.messages.lines import width

FEW = 100  # numbers that still fit into the cells of a grid
UNMEASURED = N_("could not be measured")


def loss_bars(losses, language=None, note="", title="", ranked=True, low=0):
    """Losses from worst to best, each with its perplexity. losses: name -> nats/character.

    ranked: False keeps the order that they come in. low: where the axis begins. A loss that could
    not be measured, on too short a text, is not finite: its row says so, the last where they are
    ranked.
    """
    ordered = list(losses.items())
    if ranked:
        ordered.sort(key=lambda item: (not math.isfinite(item[1]), -item[1]))
    finite = [loss for loss in losses.values() if math.isfinite(loss)]
    names = [translated(label, language) for label, _ in ordered]
    with open_figure(1.1 + 0.34 * len(names), language, note) as (figure, say):
        axes = figure.subplots()
        form = say("{:.3f}  (perplexity {:.1f})")
        for row, (label, loss) in enumerate(ordered):
            if not math.isfinite(loss):
                beside(axes, low, row, say(UNMEASURED))
                continue
            axes.hlines(row, low, loss, color=BLUE, lw=1.5)
            axes.plot(loss, row, "o", color=BLUE, label=label)
            beside(axes, loss, row, form.format(loss, math.exp(loss)))
        list_down(axes, names)
        high = max(finite, default=low + 1)
        axes.set_xlim(low, low + 1.45 * (high - low))  # room for the numbers, which have no ticks
        axes.set_xticks([tick for tick in axes.get_xticks() if low <= tick <= high])
        axes.set_xlabel(say("loss (nats/character)"))
        head(figure, title)
        order = say(", worst first") if ranked else ""
        words = say("Loss in nats/character{}: {}.")
        listed = (
            f"{name} {loss:.3f}" if math.isfinite(loss) else f"{name} {say(UNMEASURED)}"
            for name, (_, loss) in zip(names, ordered, strict=True)
        )
        figure.set_label(words.format(order, ", ".join(listed)))
    return figure


class Panels(NamedTuple):
    """How many grids stand side by side, how many rows of them there are, and each one's size."""

    across: int
    down: int
    wide: float  # inches
    high: float
    square: bool  # whether a cell may be as high as it is wide


def arrange(n, n_rows, n_columns):
    """Panels for n grids of so many rows and columns."""
    across = {1: 1, 2: 2, 4: 2}.get(n, 3 if n < 7 else 4)
    wide = (5.7 if across < 3 else 6.3) / across
    shape = n_rows / n_columns
    high = min(wide * np.clip(shape, 0.3, 1.5), 3.8)
    return Panels(across, math.ceil(n / across), wide, high, 0.3 <= shape <= 1.5)


def heatmaps(
    matrices,
    rows=None,
    columns=None,
    titles=(),
    labels=("", "", ""),
    language=None,
    note="",
    title="",
):
    """Grids of numbers on one colour scale, a panel each; nan and infinities are hatched.

    matrices: (R, C) or (N, R, C) array. rows, columns: R and C labels, such as characters; without
    them, positions. labels: what rows, columns and values are, with units. A single small grid
    shows its numbers too.
    """
    matrices = np.asarray(matrices, float)
    matrices = np.ma.masked_invalid(matrices[None] if matrices.ndim == 2 else matrices)
    n, n_rows, n_columns = matrices.shape
    size = arrange(n, n_rows, n_columns)
    height = 0.6 + size.down * (size.high + 0.25)
    if size.across > 2:  # the colour bar lies below
        height += 0.6
    with open_figure(height, language, note) as (figure, say):
        figure.set_layout_engine("compressed")  # keeps square grids together
        panels = figure.subplots(size.down, size.across, squeeze=False, sharex=True, sharey=True)
        for axes in panels.flat:
            axes.tick_params(length=0, labelsize=9)
            axes.grid(visible=False)
        for axes in panels.flat[n:]:
            axes.axis("off")
        scale = {"vmin": matrices.min(), "vmax": matrices.max()}
        for i, (axes, matrix) in enumerate(zip(panels.flat, matrices, strict=False)):
            image = draw_grid(axes, matrix, size.square, label=f"panel {i}", **scale)
            axes.set_title(drawable(titles[i]) if i < len(titles) else "")
        if matrices.size <= FEW and n == 1:
            write_numbers(panels[0, 0], matrices[0])
        name_cells(panels[0, 0].yaxis, rows, n_rows, 72 * size.high)
        name_cells(panels[0, 0].xaxis, columns, n_columns, 72 * size.wide, sideways=True)
        for axes in panels[:, 0]:
            axes.set_ylabel(drawable(labels[0]))
        for axes in panels[-1]:
            axes.set_xlabel(drawable(labels[1]))
        bar = {"location": "right"}
        if size.across > 2:
            bar = {"location": "bottom", "aspect": 40, "shrink": 0.6}
        figure.colorbar(image, ax=panels, label=drawable(labels[2]), pad=0.02, **bar)
        head(figure, title)
        told = [str(part) for part in (title, *titles, labels[2]) if part != ""]
        figure.set_label(grids_in_words(matrices, told, say))
    return figure


def draw_grid(axes, matrix, square, **look):
    """One grid as an image; hatched where a place is masked."""
    axes.patch.set(facecolor="#eeeeee", edgecolor="#bbbbbb", hatch="////")
    return axes.imshow(matrix, aspect="equal" if square else "auto", **look)


def write_numbers(axes, matrix):
    """Each number in its cell, black on bright ones and white on dark ones."""
    middle = (matrix.min() + matrix.max()) / 2
    for (row, column), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            look = {"color": "black" if value > middle else "white", "fontsize": SMALL}
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", **look)


def name_cells(axis, names, count, points, sideways=False):
    """Name the rows or columns of a grid, so many points long; some of them where room is short.

    names: None stands for positions. sideways: the names stand side by side, not one below another.
    """
    names = [visible(name) for name in (range(count) if names is None else names)]
    needed = 9.3
    if sideways:
        needed = max(needed, 6.5 * max(map(width, names)))
    places = range(0, count, math.ceil(count * needed / points))
    axis.set_ticks(places, [names[place] for place in places])


def grids_in_words(matrices, told, say):
    """The alt text of grids. told: the words that stand on the picture."""
    words = say("{} grid(s) of {} by {}: {}, {:.3g} to {:.3g}.")
    what = " · ".join(told) or say("grids in words|values")
    return words.format(*matrices.shape, what, matrices.min(), matrices.max())


def lines(
    x,
    series,
    x_label,
    y_label,
    baselines=None,
    log_x=False,
    low=None,
    bands=None,
    language=None,
    note="",
    title="",
):
    """Lines over steps or positions, each named at its end.

    x: (N,), series: label -> (N,); labels with units. low: where the y axis begins, such as 0 where
    shares are compared; by default a little below the lines. bands: label of a line -> the lower
    and upper end (N,) of what is shaded around it; the title or the text says what it holds. A line
    without a finite number is not drawn but named above the axes.
    """
    x = np.asarray(x, float)
    series = {label: np.asarray(y, float) for label, y in series.items()}
    bands = {label: np.asarray(band, float) for label, band in (bands or {}).items()}
    styles = looks(series)
    with open_figure(3.8, language, note) as (figure, say):
        axes = figure.subplots()
        axes.set(xscale="log" if log_x else "linear", xlim=ends_of(x))
        if log_x:
            axes.xaxis.set(major_formatter="{x:g}", minor_formatter=NullFormatter())
        elif (x == x.round()).all():
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        drawn_values = [values.ravel() for values in (*series.values(), *bands.values())]
        axes.set_ylim(padded(np.concatenate(drawn_values), baselines))
        axes.set_ylim(bottom=low)
        for label, band in bands.items():
            axes.fill_between(x, *band, color=styles[label]["color"], alpha=0.2, lw=0)
        ends = []
        missing = []
        for label, y in series.items():
            name = translated(label, language)
            if not np.isfinite(y).any():
                missing.append(f"{name}: {say(UNMEASURED)}")
                continue
            axes.plot(x, y, **marked(styles[label], len(x)), ms=5, lw=1.6, label=label)
            last = np.flatnonzero(np.isfinite(y))[-1]
            ends.append(End(x[last], y[last], name, styles[label]["color"]))
        drawn = draw_baselines(axes.axhline, axes.get_ylim(), baselines, language)
        name_ends(axes, ends + baseline_ends(drawn, x.max()))
        end_at(axes, x)
        explain(axes, *missing, *drawn.beyond)
        x_label, y_label = translated(x_label, language), translated(y_label, language)
        axes.set(xlabel=x_label, ylabel=y_label)
        head(figure, title)
        told = {translated(label, language): y for label, y in series.items()}
        figure.set_label(f"{y_label} · {x_label} · {lines_in_words(told, say)}")
    return figure


def lines_in_words(series, say):
    """From where to where each line goes."""
    words = say("{}: from {:.3g} to {:.3g}")
    finite = ((label, y[np.isfinite(y)]) for label, y in series.items())
    return "; ".join(
        words.format(label, y[0], y[-1]) if len(y) else f"{label}: {say(UNMEASURED)}"
        for label, y in finite
    )
