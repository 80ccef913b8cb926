"""Pictures from inside a model: its vectors, its guesses on the way, where its heads look, what each part is worth."""

import numpy as np
from matplotlib.ticker import NullFormatter

from course_utils.figures.drawing import (
    GREY,
    SMALL,
    draw_baselines,
    drawable,
    head,
    label_ends,
    looks,
    make_room,
    open_figure,
    padded,
    visible,
)
from course_utils.figures.numbers import heatmaps

KINDS = {
    "vowels": ("vowels", "元音", "AEIOUaeiou"),
    "consonants": ("consonants", "辅音", "BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"),
    "others": ("all else", "其他", ""),
}
MOST_COLUMNS = 36  # characters side by side that a phone can still show


def unit(vectors):
    """Each row scaled to length 1; a row of zeros stays."""
    vectors = np.asarray(vectors, float)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def push_apart(places, sizes, rounds=500):
    """Points moved until boxes of these sizes around them do not overlap. places, sizes: (N, 2)."""
    places, sizes = np.array(places, float), np.asarray(sizes, float)
    needed, order = (sizes[:, None] + sizes) / 2, np.arange(len(places))
    side = np.sign(order[:, None] - order)[..., None]  # which way, where two lie on one spot
    for _ in range(rounds):
        apart = places[:, None] - places
        overlap = (needed - np.abs(apart)) * (side != 0)
        both = (overlap > 1e-9).all(-1, keepdims=True)
        if not both.any():
            break
        shorter = overlap == overlap.min(-1, keepdims=True)  # out by the nearer edge
        signs = np.where(apart == 0, side, np.sign(apart))
        places += 0.3 * np.where(both & shorter, signs * (overlap + 1e-3), 0).sum(1)
    return places


def character_map(vectors, characters, language="english", note="", title=""):
    """Which characters a model holds to be alike: their vectors, seen along the two directions that vary most.

    vectors: (V, C), one for each of the characters. The alt text names the closest pairs, by cosine.
    """
    vectors = unit(vectors)
    centred = vectors - vectors.mean(0)
    left, strengths, _ = np.linalg.svd(centred, full_matrices=False)
    shares = strengths**2 / (strengths**2).sum()
    size = np.array([6.1, 4.4])  # inches
    flat = left[:, :2] * strengths[:2]
    flat = (flat - flat.min(0)) / np.ptp(flat, axis=0) * (size - 0.3) + 0.15
    kinds = [
        next((kind for kind, (*_, signs) in KINDS.items() if c in signs), "others")
        for c in characters
    ]
    with open_figure(5.0, language, note) as (figure, say):
        axes, styles = figure.subplots(), looks(KINDS)
        labels = [visible(c) for c in characters]
        boxes = [(0.04 + 0.11 * len(label), 0.2) for label in labels]
        for label, kind, (x, y) in zip(labels, kinds, push_apart(flat, boxes), strict=True):
            middle = {"ha": "center", "va": "center", "fontsize": 12, "label": f"character {label}"}
            axes.text(x, y, label, color=styles[kind]["color"], **middle)
        axes.set(xlim=(-0.15, size[0]), ylim=(-0.1, size[1] + 0.1), xticks=[], yticks=[])
        words = say("{} direction of most variation ({:.0%} of it)", "变化{}的方向（占 {:.0%}）")
        ranks = say(("first", "second"), ("最大", "次大"))
        axes.set(xlabel=words.format(ranks[0], shares[0]), ylabel=words.format(ranks[1], shares[1]))
        kinds = " · ".join(say(*KINDS[kind][:2]) for kind in KINDS)
        axes.set_title(
            say("from light to dark: {}", "由浅到深：{}").format(kinds), fontsize=SMALL, color=GREY
        )
        head(figure, title)
        alike = np.where(np.tri(len(vectors), dtype=bool), -2, vectors @ vectors.T)
        rows, columns = np.unravel_index(np.argsort(-alike, axis=None)[:5], alike.shape)
        pairs = ", ".join(
            f"{labels[i]} {labels[j]} {alike[i, j]:.2f}" for i, j in zip(rows, columns, strict=True)
        )
        alt = say(
            "A map of {} characters; closest, by cosine: {}.",
            "{} 个字符的分布图；余弦相似度最高的：{}。",
        )
        figure.set_label(alt.format(len(labels), pairs))
    return figure


def position_similarity(positions, language="english", note="", title=""):
    """How alike the vectors of two positions are, in several models: all pairs, and their mean by distance.

    positions: name -> (T, C) vectors, the same T for all. Alike: the cosine of their angle, from -1 to 1.
    """
    cosines = {name: unit(vectors) @ unit(vectors).T for name, vectors in positions.items()}
    means = {name: [np.diagonal(c, k).mean() for k in range(len(c))] for name, c in cosines.items()}
    with open_figure(4.6, language, note) as (figure, say):
        upper, lower = figure.subfigures(2, 1, height_ratios=(2.3, 2.6))
        panels = upper.subplots(1, len(cosines), sharey=True, squeeze=False)[0]
        for axes, (name, values) in zip(panels, cosines.items(), strict=True):
            image = axes.imshow(values, vmin=-1, vmax=1, label=name)
            axes.set_title(drawable(name), fontsize=SMALL)
            axes.grid(visible=False)
            axes.set_xlabel(say("position", "位置"))
        panels[0].set_ylabel(say("position", "位置"))
        upper.colorbar(image, ax=panels, label=say("cosine", "余弦"), shrink=0.8)
        axes, styles, ends = lower.subplots(), looks(means), []
        for name, mean in means.items():
            axes.plot(mean, **styles[name], lw=1.6, ms=5, markevery=0.15, label=f"{name} mean")
            ends.append((len(mean) - 1, mean[-1], drawable(name), styles[name]["color"]))
        axes.set(xlim=(0, len(mean) - 1), ylim=padded(np.concatenate(list(means.values()))))
        axes.set(
            xlabel=say("distance (positions)", "距离（位置数）"),
            ylabel=say("mean cosine", "平均余弦"),
        )
        make_room(axes, ends)
        label_ends(axes, ends)
        head(figure, title)
        told = ", ".join(
            f"{drawable(name)} {mean[1]:.2f} / {mean[len(mean) // 2]:.2f}"
            for name, mean in means.items()
        )
        alt = say(
            "Mean cosine of positions 1 / {} apart: {}.", "相距 1 / {} 的位置的平均余弦：{}。"
        )
        figure.set_label(alt.format(len(mean) // 2, told))
    return figure


def logit_lens(guesses, probabilities, text, language="english", note="", title=""):
    """What the model would guess if it stopped after each layer, and how likely it finds what really comes.

    guesses: (S, T) characters, the likeliest after each stage, the embedding first. probabilities: (S, T) of the
    character that came. text: T + 1 characters; the guess below its i-th is for the one after.
    """
    probabilities, T = np.asarray(probabilities, float), len(text) - 1
    if T > MOST_COLUMNS:
        raise ValueError(f"{T} characters are more than the {MOST_COLUMNS} that a phone can show")
    with open_figure(1.7 + 0.3 * len(guesses), language, note) as (figure, say):
        axes = figure.subplots()
        names = [
            say("embedding", "嵌入"),
            *(say(f"layer {i}", f"第 {i} 层") for i in range(1, len(guesses))),
        ]
        image = axes.imshow(probabilities, vmin=0, vmax=1, aspect="auto", label="probability")
        for (row, column), p in np.ndenumerate(probabilities):
            ink = {
                "ha": "center",
                "va": "center",
                "fontsize": SMALL,
                "color": "black" if p > 0.5 else "white",
            }
            axes.text(column, row, visible(guesses[row][column]), **ink)
        axes.set_yticks(range(len(guesses)), names)
        axes.set_xticks(range(T), map(visible, text[:-1]))
        above = axes.secondary_xaxis("top")
        above.set_xticks(range(T), map(visible, text[1:]))
        above.set_xlabel(say("what comes next", "实际的下一个字符"))
        for side in (axes, above):
            side.tick_params(length=0, labelsize=SMALL)
        axes.grid(visible=False)
        axes.set_xlabel(say("what the model has just read", "模型刚读到的字符"))
        figure.colorbar(image, label=say("probability", "概率"), pad=0.02)
        head(figure, title)
        right = [sum(a == b for a, b in zip(row, text[1:], strict=True)) for row in guesses]
        told = ", ".join(f"{name} {hits}" for name, hits in zip(names, right, strict=True))
        alt = say("Right guesses of {} after each stage: {}.", "各阶段在 {} 次中猜对的次数：{}。")
        figure.set_label(alt.format(T, told))
    return figure


def attention_maps(weights, text, language="english", note="", title=""):
    """Where each head looks while it reads the text: a row a character that looks, a column one that is looked at.

    weights: (L, H, T, T), each row summing to 1. ValueError if a head looks ahead: a mask is missing there.
    """
    weights = np.asarray(weights, float)
    L, H, T, _ = weights.shape
    ahead = np.triu(np.ones((T, T), bool), 1)
    for layer, head_ in np.ndindex(L, H):
        if np.abs(weights[layer, head_][ahead]).max(initial=0) > 1e-6:
            raise ValueError(
                f"layer {layer + 1}, head {head_ + 1} looks ahead: its mask is missing"
            )
    back = (weights * (np.arange(T)[:, None] - np.arange(T))).sum(-1).mean(-1)  # (L, H) characters
    chinese = language == "chinese"
    form = "第 {} 层 · 头 {}：回看 {:.1f}" if chinese else "layer {} · head {}: {:.1f} back"
    titles = [form.format(i + 1, j + 1, back[i, j]) for i, j in np.ndindex(L, H)]
    labels = (
        ("读者", "被看者", "权重（比例）") if chinese else ("reader", "looked at", "weight (share)")
    )
    masked = np.where(ahead, np.nan, weights).reshape(L * H, T, T)
    figure = heatmaps(masked, list(text), list(text), titles, labels, language, note, title)
    told = (
        "各注意力头平均回看的字符数："
        if chinese
        else "How many characters each head looks back on average: "
    )
    figure.set_label(told + ", ".join(titles))
    return figure


def parts_removed(losses, intact, language="english", note="", title=""):
    """What the model loses when one part is switched off, in the order given. losses: part -> nats/character."""
    names, extra = (
        [drawable(part) for part in losses],
        np.array(list(losses.values()), float) - intact,
    )
    with open_figure(1.2 + 0.34 * len(names), language, note) as (figure, say):
        axes = figure.subplots()
        axes.hlines(range(len(names)), 0, extra, color="#00688a", lw=1.5)
        axes.plot(extra, range(len(names)), "o", color="#00688a", label="extra loss")
        for row, value in enumerate(extra):
            beside = {
                "xytext": (7, 0),
                "textcoords": "offset points",
                "va": "center",
                "fontsize": SMALL,
            }
            axes.annotate(f"{value:+z.3f}", (max(value, 0), row), **beside)
        axes.axvline(0, color=GREY, lw=0.8)
        axes.set_yticks(range(len(names)), names)
        low, high = min(extra.min(), 0), max(extra.max(), 1e-3)
        axes.set(
            xlim=(low - 0.03 * (high - low), high + 0.16 * (high - low)),
            ylim=(len(names) - 0.5, -0.5),
        )
        words = say(
            "extra loss (nats/character; intact: {:.3f})",
            "增加的损失（奈特/字符；完整模型：{:.3f}）",
        )
        axes.set_xlabel(words.format(intact))
        axes.grid(visible=False, axis="y")
        head(figure, title)
        listed = ", ".join(
            f"{part} {value:+z.3f}" for part, value in zip(names, extra, strict=True)
        )
        alt = say(
            "Extra loss, in nats/character, without: {}.",
            "去掉以下部分后增加的损失（奈特/字符）：{}。",
        )
        figure.set_label(alt.format(listed))
    return figure


def loss_by_position(losses, baselines=None, language="english", note="", title=""):
    """How the loss falls with what has been read: a dot a position, a line through means of 1, 1, 2, 4, …

    losses: (T,) nats/character at the 1st … T-th position, after as many characters.
    """
    losses = np.asarray(losses, float)
    read = np.arange(1, len(losses) + 1)
    bins = np.ceil(np.log2(read)).astype(int)
    middles, means = (
        [np.mean(values[bins == b]) for b in range(bins.max() + 1)] for values in (read, losses)
    )
    with open_figure(3.6, language, note) as (figure, say):
        axes = figure.subplots()
        axes.set(xscale="log", xlim=(0.9, 1.1 * read[-1]), ylim=padded(losses, baselines))
        axes.plot(read, losses, "o", color="#00688a", alpha=0.35, ms=3, label="positions")
        axes.plot(middles, means, "-", color="#1d1b4d", lw=1.8, label="means")
        axes.xaxis.set(major_formatter="{x:g}", minor_formatter=NullFormatter())
        inside, outside = draw_baselines(axes.axhline, axes.get_ylim(), baselines, language)
        if inside:
            ends = [(read[-1], value, text, GREY) for value, text in inside]
            make_room(axes, ends)
            label_ends(axes, ends)
        key = say(
            "dots: positions · line: means of 1, 1, 2, 4, …",
            "点：各位置 · 线：1、1、2、4……个位置的平均",
        )
        axes.set_title("\n".join([key, *outside]), fontsize=SMALL, color=GREY)
        axes.set_xlabel(say("characters read so far in this window", "本窗口中已读的字符数"))
        axes.set_ylabel(say("loss (nats/character)", "损失（奈特/字符）"))
        head(figure, title)
        alt = say(
            "Loss after 1 character {:.2f}, over the last half {:.2f}.",
            "读 1 个字符后的损失 {:.2f}，后一半 {:.2f}。",
        )
        figure.set_label(alt.format(losses[0], losses[len(losses) // 2 :].mean()))
    return figure
