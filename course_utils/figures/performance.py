"""Pictures of speed: contenders beside each other, and how the time of a step grows."""

import math

import pandas as pd
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, NullLocator

from course_utils.figures.drawing import (
    BLUE,
    GREY,
    explain,
    head,
    list_down,
    open_figure,
)
from course_utils.figures.labels import beside
from course_utils.figures.words import drawable, fold, three_digits
from course_utils.messages import N_

PEER = "Hugging Face GPT-2"  # whom all are compared with, where it took part
CONTENDERS = (  # parts of their names
    N_("plain loop"),
    N_("engine: "),
    N_("compiled"),
    N_("CUDA graph"),
    N_("without a cache"),
    N_("lesson 6"),
    N_("ours, "),
    N_("one kernel"),
    N_(", speculative"),
    N_("the page's WebAssembly"),
)
SETTINGS = {  # what `course bench scaling` changes, one at a time
    "n_layers": N_("performance|layers"),
    "d_model": N_("width (channels)"),
    "context_length": N_("context (characters)"),
    "batch_size": N_("batch (windows)"),
}


def factors(rows):
    """Each speed as a multiple of Hugging Face's, or of the slowest where that is not there."""
    speeds = rows["characters_per_s"]
    peer = speeds[rows["name"] == PEER]
    return speeds / (peer.iloc[0] if len(peer) else speeds.min())


def by_texts(rows):
    """Contenders that may be compared: trainers; writers of one text; writers of many.

    -> [(title, rows)]
    """
    if "texts" not in rows:
        return [("", rows)]
    titles = {False: N_("one text at a time"), True: N_("many texts at a time")}
    return [(titles[many], group) for many, group in rows.groupby(rows["texts"] > 1)]


def contenders(rows, language=None, note="", title=""):
    """Characters a second, slowest first, with their factors; a panel for one text, one for many.

    rows: as `course bench` measures them: name, characters_per_s, and low_ms, median_ms, high_ms
    (training) or texts, low, high in characters a second (writing). Where they lie more than ten
    times apart from end to end, the axis is logarithmic.
    """
    rows = pd.DataFrame(rows)
    if "low" not in rows:
        speeds = rows["characters_per_s"] * rows["median_ms"]
        rows = rows.assign(low=speeds / rows["high_ms"], high=speeds / rows["low_ms"])
    rows = rows.sort_values("characters_per_s", kind="stable")
    wide = rows["high"].max() > 10 * rows["low"].min()
    groups = by_texts(rows)
    heights = [len(group) + 0.3 for _, group in groups]
    height = 0.9 + 0.45 * sum(heights) + 0.3 * len(groups)
    with open_figure(height, language, note) as (figure, say):
        across = {"sharex": True, "squeeze": False, "height_ratios": heights}
        panels = figure.subplots(len(groups), **across)[:, 0]
        told = []
        for axes, (words, group) in zip(panels, groups, strict=True):
            group = group.assign(factor=factors(group))
            draw_contenders(axes, group, wide, say)
            key = factors_key(group, say)
            explain(axes, " · ".join(filter(None, [say(words), key])))
            told.append(contenders_in_words(group, say(words), key, say))
        set_speed_axis(panels[-1], rows["low"].min(), rows["high"].max(), wide, say)
        head(figure, title)
        words = say("Characters a second, slowest first: {}.")
        words = words.format("; ".join(told))
        figure.set_label(f"{title}. {words}" if title else words)
    return figure


def draw_contenders(axes, group, wide, say):
    """A row a contender: its speed with the middle half of the rounds, and its factor."""
    for y, row in enumerate(group.itertuples()):
        color = GREY if row.name == PEER else BLUE
        if not wide:  # a stem has a length, which means nothing on a logarithmic axis
            axes.hlines(y, 0, row.characters_per_s, color=color, lw=1)
        thick = {"lw": 5, "alpha": 0.5, "label": f"{row.name} interval"}
        axes.hlines(y, row.low, row.high, color=color, **thick)
        inner = "white" if row.name == PEER else color
        axes.plot(row.characters_per_s, y, "o", color=color, mfc=inner, label=row.name)
        beside(axes, row.high, y, speed_in_words(row), right=8)
    names = [contender(row, say, "\n") for row in group.itertuples()]
    list_down(axes, ["\n".join(fold(name, 26)) for name in names], top=0.6, lines=wide)
    axes.tick_params(axis="y", length=0)


def contender(row, say, comma):
    """A row's name in the picture's language, and how many texts it writes where these are many."""
    name = in_language(row.name, say)
    n = getattr(row, "texts", 1)
    return drawable(name + comma + say("{n:,} texts", n=n) if n > 1 else name)


def in_language(name, say):
    """A contender's name in the language of `say`."""
    for part in CONTENDERS:
        name = name.replace(part, say(part))
    return name


def speed_in_words(row):
    """A contender's speed and its factor."""
    return f"{three_digits(row.characters_per_s)} · {row.factor:.3g}×"


def factors_key(group, say):
    """What the factors of a group are multiples of."""
    if PEER in set(group["name"]):
        return say("×: times the speed of {peer}", peer=PEER)
    return say("×: times the speed of the slowest")


def contenders_in_words(group, title, key, say):
    """One panel's part of the alt text."""
    listed = ", ".join(
        f"{contender(row, say, ', ')} {speed_in_words(row)}" for row in group.itertuples()
    )
    return f"{title} ({key}): {listed}" if title else f"{listed} ({key})"


def set_speed_axis(axes, least, most, wide, say):
    """The axis of all panels: from zero, or logarithmic; room for numbers, where no tick stands."""
    label = say("characters a second")
    if wide:
        span = most / least
        axes.set(xscale="log", xlim=(least * span**-0.05, most * span**0.55))
        mark_decades(axes.xaxis, span)
        label += say(" (log scale)")
    else:
        axes.set_xlim(0, 1.6 * most)
    start = axes.get_xlim()[0]
    axes.set_xticks([tick for tick in axes.get_xticks() if start <= tick <= most])
    axes.xaxis.set(major_formatter=EngFormatter(sep=""), minor_locator=NullLocator())
    key = say("thick: the middle half of the rounds")
    axes.set_xlabel(f"{label}\n{key}")


def percent(share):
    """A share in percent, short enough to stand over a point."""
    if share < 0.0005:
        return "< 0.1 %"
    digits = 1 if share < 0.0995 else 0
    return f"{100 * share:.{digits}f} %"


def mark_decades(axis, span):
    """Ticks at powers of ten, and at 1, 2 and 5 where a logarithmic axis has few of these."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < 300 else (1,)))
    axis.set_minor_formatter(NullFormatter())


def scaling(rows, language=None, note="", title=""):
    """The time of a training step as one setting grows, a panel each, both axes logarithmic.

    rows: as `course bench scaling` measures them: kind (a key of SETTINGS), name (its value),
    median_ms, share_of_matrix_rate. Dashed: the time if every step did its arithmetic as fast as
    the panel's best one.
    """
    rows = pd.DataFrame(rows)
    kinds = [kind for kind in SETTINGS if kind in set(rows["kind"])]
    down = math.ceil(len(kinds) / 2)
    low = rows["median_ms"].min()
    high = rows["median_ms"].max()
    with open_figure(1 + 2.5 * down, language, note) as (figure, say):
        panels = figure.subplots(down, 2, sharey=True, squeeze=False)
        for axes in panels.flat[len(kinds) :]:
            axes.axis("off")
        for axes, kind in zip(panels.flat, kinds, strict=False):
            axes.set(xscale="log", yscale="log", ylim=(low / 1.6, high * 1.8))
            draw_growth(axes, grown(rows, kind), kind)
            axes.set_xlabel(say(SETTINGS[kind]))
        mark_decades(panels[0, 0].yaxis, high / low)
        panels[0, 0].yaxis.set_major_formatter("{x:,g}")
        for axes in panels[:, 0]:
            axes.set_ylabel(say("time of a step (ms)"))
        key = say("%: share of the matrix rate · dashed: if time followed the arithmetic")
        explain(panels[0, 0], key)
        head(figure, title)
        words = scaling_in_words(rows, kinds, say)
        figure.set_label(f"{title}. {words}" if title else words)
    return figure


def grown(rows, kind):
    """The rows of one setting: its values, times in ms, shares of the matrix rate."""
    rows = rows[rows["kind"] == kind]
    columns = {"value": rows["name"].astype(int), "time": rows["median_ms"]}
    return pd.DataFrame(columns | {"share": rows["share_of_matrix_rate"]})


def draw_growth(axes, points, kind):
    """One panel: the times over a setting's values, and how they would grow with the arithmetic."""
    values = points["value"]
    margin = (values.max() / values.min()) ** 0.16 if len(values) > 1 else 2
    axes.set_xlim(values.min() / margin, values.max() * margin)
    in_proportion = points["time"] * points["share"] / points["share"].max()
    dashed = {"color": GREY, "lw": 1.2, "label": f"{kind} in proportion"}
    axes.plot(values, in_proportion, "--", **dashed)
    axes.plot(values, points["time"], "o-", color=BLUE, label=kind)
    for point in points.itertuples():
        above = {"right": -8, "up": 6, "ha": "center", "va": "baseline"}
        beside(axes, point.value, point.time, percent(point.share), **above)
    axes.set_xticks(values, [f"{value:,}" for value in values])
    axes.xaxis.set_minor_locator(NullLocator())


def scaling_in_words(rows, kinds, say):
    """The alt text of the times of steps."""
    told = []
    for kind in kinds:
        listed = ", ".join(
            f"{point.value:,} {three_digits(point.time)} ms ({percent(point.share)})"
            for point in grown(rows, kind).itertuples()
        )
        told.append(f"{say(SETTINGS[kind])}: {listed}")
    words = say("Time of a training step, and share of the matrix rate, by {}.")
    return words.format("; ".join(told))
