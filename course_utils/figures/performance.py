"""Pictures of speed: contenders beside each other, and how the time of a step grows."""

import numpy as np
import pandas as pd
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, NullLocator

from course_utils.figures.drawing import GREY, SMALL, drawable, fold, head, open_figure

PEER = "Hugging Face GPT-2"  # whom all are compared with, where it took part
CHINESE = {
    "plain loop": "普通循环",
    "engine: ": "引擎：",
    "compiled": "编译",
    "CUDA graph": "CUDA 图",
    "without a cache": "不用缓存",
    "lesson 6": "第 6 讲",
    "ours, ": "本课程，",
}
SETTINGS = {  # what `course bench scaling` changes, one at a time
    "n_layers": ("layers", "层数（层）"),
    "d_model": ("width (channels)", "宽度（通道）"),
    "context_length": ("context (characters)", "上下文（字符）"),
    "batch_size": ("batch (windows)", "批大小（窗口）"),
}
BLUE = "#00688a"


def factors(rows):
    """The speed of each as a multiple of Hugging Face's, or of the slowest where that is not there. -> Series"""
    speeds = rows["characters_per_s"]
    peer = speeds[rows["name"] == PEER]
    return speeds / (peer.iloc[0] if len(peer) else speeds.min())


def by_texts(rows):
    """Contenders that may be compared: trainers; writers of one text; writers of many. -> [(title of both, rows)]"""
    if "texts" not in rows:
        return [(("", ""), rows)]
    titles = {False: ("one text at a time", "一次一篇"), True: ("many texts at a time", "一次多篇")}
    return [(titles[many], group) for many, group in rows.groupby(rows["texts"] > 1)]


def contenders(rows, language="english", note="", title=""):
    """Characters a second, slowest first, each with its factor; a panel for one text and one for many.

    rows: as `course bench` measures them: name, characters_per_s, and low_ms, median_ms, high_ms (training) or
    texts, low, high in characters a second (writing). More than ten times from end to end: the axis is logarithmic.
    """
    rows = pd.DataFrame(rows)
    if "low" not in rows:
        speeds = rows["characters_per_s"] * rows["median_ms"]
        rows = rows.assign(low=speeds / rows["high_ms"], high=speeds / rows["low_ms"])
    groups = by_texts(rows)
    least, most = rows["low"].min(), rows["high"].max()
    wide = bool(most > 10 * least)
    heights = [len(group) + 0.3 for _, group in groups]
    with open_figure(0.9 + 0.45 * sum(heights) + 0.3 * len(groups), language, note) as (
        figure,
        say,
    ):
        panels = figure.subplots(len(groups), sharex=True, squeeze=False, height_ratios=heights)[
            :, 0
        ]
        told = []
        for axes, (words, group) in zip(panels, groups, strict=True):
            factor, found = factors(group), []
            group = group.assign(factor=factor).sort_values("characters_per_s", kind="stable")
            for y, row in enumerate(group.itertuples()):
                is_peer = row.name == PEER
                look = {
                    "color": GREY if is_peer else BLUE,
                    "mfc": "white" if is_peer else BLUE,
                    "label": row.name,
                }
                if not wide:  # a stem has a length, which means nothing on a logarithmic axis
                    axes.hlines(y, 0, row.characters_per_s, color=look["color"], lw=1)
                axes.hlines(
                    y,
                    row.low,
                    row.high,
                    color=look["color"],
                    lw=5,
                    alpha=0.5,
                    label=f"{row.name} interval",
                )
                axes.plot(row.characters_per_s, y, "o", **look)
                text = f"{rounded(row.characters_per_s)} · {row.factor:.3g}×"
                beside = {
                    "xytext": (8, 0),
                    "textcoords": "offset points",
                    "va": "center",
                    "fontsize": SMALL,
                }
                axes.annotate(text, (row.high, y), **beside)
                found.append(f"{contender(row, say, ', ')} {text}")
            labels = ["\n".join(fold(contender(row, say, "\n"), 26)) for row in group.itertuples()]
            axes.set_yticks(range(len(group)), labels)
            axes.set_ylim(len(group) - 0.4, -0.6)
            axes.grid(visible=wide, axis="y")
            axes.tick_params(axis="y", length=0)
            if PEER in set(group["name"]):
                key = say(f"×: times the speed of {PEER}", f"×：{PEER} 速度的倍数")
            else:
                key = say("×: times the speed of the slowest", "×：最慢者速度的倍数")
            axes.set_title(" · ".join(filter(None, [say(*words), key])), fontsize=SMALL, color=GREY)
            told.append(
                f"{say(*words)} ({key}): " * bool(words[0])
                + ", ".join(found)
                + f" ({key})" * (not words[0])
            )
        if wide:
            low, high = np.log10([least, most])
            panels[-1].set(
                xscale="log",
                xlim=10 ** np.array([low - 0.05 * (high - low), high + 0.55 * (high - low)]),
            )
            readable(panels[-1].xaxis, most / least)
        else:
            panels[-1].set_xlim(0, 1.6 * most)
        start = panels[-1].get_xlim()[0]
        panels[-1].set_xticks(
            [tick for tick in panels[-1].get_xticks() if start <= tick <= most]
        )  # none among labels
        panels[-1].xaxis.set(major_formatter=EngFormatter(sep=""), minor_locator=NullLocator())
        what = say("characters a second", "每秒字符数") + say(" (log scale)", "（对数坐标）") * wide
        panels[-1].set_xlabel(
            what + say("\nthick: the middle half of the rounds", "\n粗线：各轮测量的中间一半")
        )
        head(figure, title)
        alt = say("Characters a second, slowest first: {}.", "每秒字符数，从慢到快：{}。").format(
            "; ".join(told)
        )
        figure.set_label(f"{title}. {alt}" if title else alt)
    return figure


def contender(row, say, comma):
    """A row's name in the language of the picture, and how many texts it writes if that is more than one."""
    chinese = row.name
    for word, sign in CHINESE.items():
        chinese = chinese.replace(word, sign)
    name, texts = say(row.name, chinese), getattr(row, "texts", 1)
    return drawable(f"{name}{comma}{texts:,} {say('texts', '篇')}" if texts > 1 else name)


def rounded(value):
    """A count with three digits that mean something: 43152.9 -> "43,200"."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def share(value):
    """A share in percent, short enough to stand over a point."""
    return "< 0.1 %" if value < 0.0005 else f"{100 * value:.{int(value < 0.0995)}f} %"


def readable(axis, span):
    """Ticks at 1, 2 and 5 where a logarithmic axis has few powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < 300 else (1,)))
    axis.set_minor_formatter(NullFormatter())


def scaling(rows, language="english", note="", title=""):
    """The time of a training step as one setting grows, a panel each, both axes logarithmic.

    rows: as `course bench scaling` measures them: kind (a key of SETTINGS), name (its value), median_ms,
    share_of_matrix_rate. Dashed: the time if every step did its arithmetic as fast as the panel's best one.
    """
    rows = pd.DataFrame(rows)
    kinds = [kind for kind in SETTINGS if kind in set(rows["kind"])]
    down = -(-len(kinds) // 2)
    low, high = rows["median_ms"].min(), rows["median_ms"].max()
    with open_figure(1 + 2.5 * down, language, note) as (figure, say):
        panels, told = figure.subplots(down, 2, sharey=True, squeeze=False), []
        for axes in panels.flat[len(kinds) :]:
            axes.axis("off")
        for axes, kind in zip(panels.flat, kinds, strict=False):
            found = rows[rows["kind"] == kind]
            values, times = found["name"].astype(int).values, found["median_ms"].values
            shares = found["share_of_matrix_rate"].values
            margin = (values.max() / values.min()) ** 0.16 if len(values) > 1 else 2
            axes.set(
                xscale="log", yscale="log", xlim=(values.min() / margin, values.max() * margin)
            )
            axes.set_ylim(low / 1.6, high * 1.8)
            axes.plot(
                values,
                times * shares / shares.max(),
                "--",
                color=GREY,
                lw=1.2,
                label=f"{kind} in proportion",
            )
            axes.plot(values, times, "o-", color=BLUE, label=kind)
            for value, time, part in zip(values, times, shares, strict=True):
                above = {
                    "xytext": (-8, 6),
                    "textcoords": "offset points",
                    "ha": "center",
                    "fontsize": SMALL,
                }
                axes.annotate(share(part), (value, time), **above)
            axes.set_xticks(values, [f"{value:,}" for value in values])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel(say(*SETTINGS[kind]))
            points = zip(values, times, shares, strict=True)
            told.append(
                f"{say(*SETTINGS[kind])}: "
                + ", ".join(
                    f"{value:,} {rounded(time)} ms ({share(part)})" for value, time, part in points
                )
            )
        readable(panels[0, 0].yaxis, high / low)
        panels[0, 0].yaxis.set_major_formatter("{x:,g}")
        for axes in panels[:, 0]:
            axes.set_ylabel(say("time of a step (ms)", "每步时间（毫秒）"))
        key = say("%: share of the matrix rate · dashed: if time followed the arithmetic",
                  "%：矩阵运算峰值的占比 · 虚线：时间与运算量成正比时")  # fmt: skip
        panels[0, 0].set_title(key, fontsize=SMALL, color=GREY)
        head(figure, title)
        alt = say(
            "Time of a training step, and share of the matrix rate, by {}.",
            "每步时间及矩阵运算峰值的占比：{}。",
        )
        alt = alt.format("; ".join(told))
        figure.set_label(f"{title}. {alt}" if title else alt)
    return figure
