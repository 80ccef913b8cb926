"""Pictures of the recorded study: what each choice changes, which learning rate suits which depth, what data buys."""

import re

import numpy as np

from course_utils.figures.drawing import (
    GREY,
    SMALL,
    head,
    label_ends,
    looks,
    make_room,
    name,
    open_figure,
    padded,
)
from course_utils.figures.study import LOSS

BETTER, WORSE = "#00688a", "#b05a00"
ARMS = {  # the arms of studies.CHOICES in Chinese
    "no positions": "无位置信息", "learned positions": "可学习位置", "sinusoidal positions": "正弦位置",
    "rotary positions": "旋转位置 RoPE", "LayerNorm before": "LayerNorm 前置", "LayerNorm after": "LayerNorm 后置",
    "RMSNorm before": "RMSNorm 前置", "no norm": "无归一化", "squared ReLU": "ReLU 的平方", "residuals": "有残差",
    "no residuals": "无残差", "tied embeddings": "共享嵌入", "two embeddings": "两个嵌入", "no QK-norm": "无 QK-norm",
    "constant rate": "学习率不变", "falling over the second half": "后半段下降", "falling all the time": "一直下降",
    "no warm-up": "无预热", "unchanged": "不改", "unchanged, other seeds": "不改，换种子（对照）",
}  # fmt: skip
PATTERNS = {
    r"^(\d+) heads?$": r"\1 个头", r"^dropout (.+)$": r"dropout \1", r"^context (\d+)$": r"上下文 \1",
    r"^batch x (.+)$": r"批量 ×\1", r"^feed-forward x (.+)$": r"前馈宽度 ×\1",
    r"^(\d+) layers?, (.+) of the text$": r"\1 层，\2 文本",
}  # fmt: skip


def arm_name(arm, language):
    """An arm's name in this language."""
    if language == "chinese":
        if arm in ARMS:
            return ARMS[arm]
        for pattern, words in PATTERNS.items():
            if re.match(pattern, arm):
                return re.sub(pattern, words, arm)
    return name(arm, language)


def effect_ranking(effects, language="english", note="", title=""):
    """What each arm changes against the reference, with its 95 % interval, the best on top.

    effects: rows with arm, difference, low, high (nats/character), clear. Filled marks are clear after correction for
    the number of arms, open ones are not. What lies far outside the middle of the field is an arrow at the edge.
    """
    rows = effects.sort_values("difference", ignore_index=True)
    low, high = edges(rows)
    with open_figure(1.5 + 0.24 * len(rows), language, note) as (figure, say):
        axes = figure.subplots()
        axes.axvline(0, color=GREY, lw=0.8)
        for row, arm in enumerate(rows.itertuples()):
            color, words = BETTER if arm.difference < 0 else WORSE, f"{arm.difference:+z.3f}"
            if low <= arm.difference <= high:
                axes.plot(
                    np.clip([arm.low, arm.high], low, high),
                    [row, row],
                    color=color,
                    label=f"{arm.arm} interval",
                )
                look = {
                    "color": color,
                    "mfc": color if arm.clear else "white",
                    "marker": "o" if arm.clear else "D",
                }
                axes.plot(arm.difference, row, ms=5, label=arm.arm, **look)
            else:
                edge = low if arm.difference < low else high
                axes.plot(
                    edge,
                    row,
                    marker="<" if arm.difference < low else ">",
                    color=color,
                    ms=6,
                    label=arm.arm,
                )
            axes.annotate(
                words,
                (1.01, row),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=SMALL,
                color=color,
            )
        axes.set_yticks(
            range(len(rows)), [arm_name(arm, language) for arm in rows["arm"]], fontsize=SMALL
        )
        span = high - low
        axes.set(xlim=(low - 0.04 * span, high + 0.04 * span), ylim=(len(rows) - 0.4, -0.6))
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(
            say("difference of the loss (nats/character): left is better", "损失之差（奈特/字符）：左边更好")
            + "\n"
            + say(
                "filled: clear after correction · open: not · arrow: off the range",
                "实心：校正后仍显著 · 空心：不显著 · 箭头：超出范围",
            )
        )  # fmt: skip
        head(figure, title or say("What each choice changes", "每个选择带来的变化"))
        listed = "; ".join(
            f"{arm_name(arm.arm, language)} {arm.difference:+z.3f} ({arm.low:+z.3f} … {arm.high:+z.3f})"
            for arm in rows.itertuples()
        )
        words = say(
            "Difference of the loss in nats/character, best first: {}.",
            "损失之差（奈特/字符），从好到差：{}。",
        )
        figure.set_label(words.format(listed))
    return figure


def edges(rows):
    """The range that shows most arms: four times the middle half's width beyond it, and 0."""
    first, third = np.percentile(rows["difference"], [25, 75])
    reach = 4 * max(third - first, 1e-3)
    shown = rows[rows["difference"].between(first - reach, third + reach)]
    return min(0, shown["low"].min()), max(0, shown["high"].max())


def last_inside(points, axes):
    """Where a line on a logarithmic x axis ends, or leaves the axes through the top for good: (x, y)."""
    x, y = np.log(points.iloc[:, 0].to_numpy()), points.iloc[:, 1].to_numpy()
    top = axes.get_ylim()[1]
    inside = np.flatnonzero(y <= top)[-1]
    if inside == len(x) - 1:
        return np.exp(x[-1]), y[-1]
    share = (top - y[inside]) / (y[inside + 1] - y[inside])
    return np.exp(x[inside] + share * (x[inside + 1] - x[inside])), top


def rate_sweep(table, language="english", note="", title=""):
    """Loss by learning rate, a line a depth; the best rate of each is marked.

    table: rows with n_layers, learning_rate, choosing_loss, best.
    """
    with open_figure(4.2, language, note) as (figure, say):
        axes, ends = figure.subplots(), []
        labels = {
            n: f"{n} layer" if n == 1 else f"{n} layers" for n in sorted(table["n_layers"].unique())
        }
        styles = looks(labels.values())
        axes.set(
            xscale="log",
            ylim=padded(np.minimum(table["choosing_loss"], table["choosing_loss"].median() + 0.35)),
        )
        rates = sorted(table["learning_rate"].unique())
        axes.set_xticks(rates, [f"{1e3 * rate:g}" for rate in rates])
        axes.minorticks_off()
        axes.set_xlim(rates[0] / 1.15, rates[-1] * 1.05)
        for n, label in labels.items():
            line = table[table["n_layers"] == n].sort_values("learning_rate")
            axes.plot(
                line["learning_rate"], line["choosing_loss"], **styles[label], ms=4, label=label
            )
            best = line[line["best"]]
            look = {
                "marker": "o",
                "ms": 12,
                "mfc": "none",
                "color": styles[label]["color"],
                "lw": 0,
            }
            axes.plot(best["learning_rate"], best["choosing_loss"], **look, label=f"{label} best")
            text = f"{name(label, language)} {best['choosing_loss'].iloc[0]:.3f}"
            ends.append(
                (
                    *last_inside(line[["learning_rate", "choosing_loss"]], axes),
                    text,
                    styles[label]["color"],
                )
            )
        make_room(axes, ends)
        axes.set_xticks(rates, [f"{1e3 * rate:g}" for rate in rates])
        label_ends(axes, ends)
        axes.set_xlabel(
            say("peak learning rate of AdamW (thousandths)", "AdamW 的峰值学习率（千分之一）")
        )
        axes.set_ylabel(
            say("loss, choosing half (nats/character)", "选择用一半的损失（奈特/字符）")
        )
        axes.set_title(
            say("circle and number: the best of each depth", "圆圈与数字：每种深度的最优值"),
            fontsize=SMALL,
            color=GREY,
        )
        head(
            figure,
            title or say("Loss by learning rate, depth by depth", "各种深度在不同学习率下的损失"),
        )
        chosen = table[table["best"]]
        listed = "; ".join(
            f"{labels[r.n_layers]} {r.learning_rate:g}: {r.choosing_loss:.3f}"
            for r in chosen.itertuples()
        )
        figure.set_label(
            say("Best learning rate and its loss: {}.", "最优学习率及其损失：{}。").format(listed)
        )
    return figure


def data_scaling(table, language="english", note="", title=""):
    """Loss by share of the training text, a line a depth with 95 % intervals.

    table: rows with n_layers, share (0 … 1), loss, low, high.
    """
    with open_figure(4, language, note) as (figure, say):
        axes, ends = figure.subplots(), []
        labels = {n: f"{n} layers" for n in sorted(table["n_layers"].unique())}
        styles = looks(labels.values())
        axes.set(xscale="log", ylim=padded(table[["loss", "low", "high"]]))
        shares = sorted(table["share"].unique())
        for n, label in labels.items():
            line, look = table[table["n_layers"] == n].sort_values("share"), styles[label]
            axes.plot(line["share"], line["loss"], **look, ms=5, label=label)
            axes.vlines(line["share"], line["low"], line["high"], color=look["color"], lw=1.5)
            text = f"{name(label, language)} {line['loss'].iloc[-1]:.3f}"
            ends.append((line["share"].iloc[-1], line["loss"].iloc[-1], text, look["color"]))
        axes.set_xlim(shares[0] / 1.1, shares[-1] * 1.02)
        axes.minorticks_off()
        make_room(axes, ends)
        axes.set_xticks(shares, [f"{share:.0%}" for share in shares])
        label_ends(axes, ends)
        axes.set(xlabel=say("share of the training text", "训练文本的比例"), ylabel=say(*LOSS))
        axes.set_title(say("line: 95 % interval", "竖线：95 % 区间"), fontsize=SMALL, color=GREY)
        head(figure, title or say("What more text buys", "更多文本换来了什么"))
        listed = "; ".join(
            f"{labels[r.n_layers]}, {r.share:.0%}: {r.loss:.3f}" for r in table.itertuples()
        )
        figure.set_label(
            say("Loss by share of the text: {}.", "损失与文本比例：{}。").format(listed)
        )
    return figure
