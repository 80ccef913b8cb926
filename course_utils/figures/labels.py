"""Labels that keep apart: beside points, at the ends of lines, at baselines."""

from typing import NamedTuple

import numpy as np

from course_utils.figures.drawing import GREY, SMALL
from course_utils.figures.words import fold, speaker, translated
from course_utils.messages.lines import width

BACK = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.5}  # of a label on lines
GAP = 0.025  # between a line's end and its label, as a share of the axes


class End(NamedTuple):
    """The right end of a line, and what stands beside it."""

    x: float
    y: float
    text: str
    color: str


class Baselines(NamedTuple):
    """What was drawn of the baselines."""

    shown: list  # (value, text) of each within the axis
    beyond: list  # lines of a sentence that names the others


def beside(axes, x, y, text, right=7, up=0, **look):
    """A small label so many points to the right of a point, and above it."""
    look = {"va": "center", "fontsize": SMALL, **look}
    axes.annotate(text, (x, y), (right, up), textcoords="offset points", **look)


def spread(values, gap, low, high):
    """The values moved to lie `gap` apart, in their order, and within low … high where possible."""
    order = np.argsort(values, kind="stable")
    steps = gap * np.arange(len(order))
    shifted = np.asarray(values, float)[order] - steps  # may not fall from one to the next
    up = np.maximum.accumulate(shifted)
    down = np.minimum.accumulate(shifted[::-1])[::-1]
    places = np.empty(len(order))
    places[order] = np.clip((up + down) / 2, low, high - steps[-1]) + steps
    return places


def make_room(axes, ends):
    """Widen the x axis, its limits already set to the data, so that labels fit right of the ends.

    No tick stands in that room.
    """
    box = axes.get_window_extent()  # before the layout: a little smaller than it will be
    inches = 0.62 * SMALL / 72 * max(width(end.text) for end in ends)
    label = inches / (box.width / axes.figure.dpi) + GAP
    left, right = axes.get_xlim()
    bottom = axes.get_ylim()[0]

    # First the places on the screen, where a logarithmic axis is straight; then back to the data.
    places = axes.transData.transform([(x, bottom) for x in (left, right, last_of(ends))])[:, 0]
    start, data, end = places
    stretched = max(data, start + (end - start) / (1 - label))
    ticks = axes.get_xticks()
    axes.set_xticks(ticks[(ticks >= left) & (ticks <= right)])
    axes.set_xlim(right=axes.transData.inverted().transform((stretched, box.y0))[0])


def last_of(ends):
    """The x of the end that lies furthest to the right."""
    return max(end.x for end in ends)


def label_ends(axes, ends):
    """Name lines at their right ends, in a column, in the room made for them."""
    box = axes.get_window_extent()
    last = last_of(ends)
    low, high = axes.get_ylim()
    left = (axes.transData.transform((last, low))[0] - box.x0) / box.width + GAP
    gap = 1.4 * SMALL / 72 / (box.height / axes.figure.dpi) * (high - low)
    places = spread([end.y for end in ends], gap, low + gap / 2, high - gap / 2)
    for (x, y, text, color), place in zip(ends, places, strict=True):
        leader = None
        if x < last or abs(place - y) > gap / 4:  # the label is not right beside its line
            # Far from its line it is grey, or it would look as if the line went on.
            far = x < last - GAP * (axes.get_xlim()[1] - axes.get_xlim()[0])
            leader = {"arrowstyle": "-", "color": GREY if far else color, "lw": 0.6}
            leader |= {"shrinkA": 0, "shrinkB": 3}
        axes.annotate(
            text,
            (x, y),
            (left, place),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=SMALL,
            color=color,
            arrowprops=leader,
            bbox=BACK,
        )


def name_ends(axes, ends):
    """Make room for the labels of lines, where there is a line, and put them there."""
    if ends:
        make_room(axes, ends)
        label_ends(axes, ends)


def draw_baselines(line, limits, baselines, language, form="{:.3f}", columns=86):
    """Thin lines for the baselines within the limits. line: axes.axhline or axes.axvline.

    columns: how wide the lines are that name the others.
    """
    shown = []
    beyond = []
    for label, value in (baselines or {}).items():
        text = f"{translated(label, language)}\u00a0{form.format(value)}"  # never cut in two
        if limits[0] <= value <= limits[1]:
            line(value, color=GREY, lw=0.8, ls=":", label=label)
            shown.append((value, text))
        else:
            beyond.append(text)
    say = speaker(language)
    words = say("off the range: ")
    return Baselines(shown, fold(words + say(", ").join(beyond), columns) if beyond else [])


def baseline_ends(drawn, x):
    """The ends of horizontal baselines at this x."""
    return [End(x, value, text, GREY) for value, text in drawn.shown]
