"""Diagrams: how data flows through the model, drawn from real shapes, so that none can drift.

Each is narrow, so that a phone can show it. Shapes are tuples, as `tuple(tensor.shape)` gives them.
"""

from contextlib import contextmanager

import numpy as np
from matplotlib.patches import Arc, Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from course_utils.figures.drawing import AMBER, BLUE, GREY, INK, SMALL, head, open_figure
from course_utils.figures.words import visible

NARROW = 4.4  # inches
UNITS = 10  # to an inch
PALE = "#e4f0f4"
WARM = "#fbefd9"
PLAIN = "#f4f4f4"
GROUND = {"boxstyle": "square,pad=0.2", "fc": "white", "ec": "none"}  # behind words on an arrow


@contextmanager
def canvas(height, language, note, title):
    """Axes of NARROW x height inches in units of a tenth of an inch, y upwards; and `say`."""
    with open_figure(height, language, note) as (figure, say):
        figure.set_figwidth(NARROW)
        axes = figure.subplots()
        axes.set(xlim=(0, NARROW * UNITS), ylim=(0, height * UNITS), aspect="equal")
        axes.set_axis_off()
        yield figure, axes, say
        if title:
            head(figure, title, columns=42)


def box(axes, x, y, words, width=14, height=4, color=BLUE, fill=PALE, size=SMALL):
    """A rounded box around (x, y) with words in it."""
    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0,rounding_size=0.8"
    axes.add_patch(
        FancyBboxPatch(corner, width, height, boxstyle=style, fc=fill, ec=color, lw=1.2, zorder=2)
    )
    axes.text(x, y, words, ha="center", va="center", fontsize=size, color=INK, zorder=3)


def arrow(axes, start, end, words="", at=0.5, color=GREY, bend=0.0):
    """An arrow from start to end, words at its right, so far along it."""
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=9,
            connectionstyle=f"arc3,rad={bend}",
            shrinkA=0,
            shrinkB=0,
            lw=1.1,
            color=color,
            zorder=1,
        )
    )
    if words:
        x, y = (a + at * (b - a) for a, b in zip(start, end, strict=True))
        axes.text(x + 0.8, y, words, ha="left", va="center", fontsize=SMALL, color=GREY, zorder=3)


def shape(sizes):
    """A shape as it is printed: (2, 3, 5)."""
    return f"({', '.join(map(str, sizes))})"


def grid(axes, x, y, rows, columns, cell, fill):
    """Cells of a matrix, the upper left corner at (x, y). fill(row, column) -> colour"""
    for row in range(rows):
        for column in range(columns):
            corner = (x + column * cell, y - (row + 1) * cell)
            axes.add_patch(
                Rectangle(corner, cell, cell, fc=fill(row, column), ec="white", lw=0.8, zorder=2)
            )


def shifted(tokens, targets, language=None, note="", title=""):
    """Tokens over targets: the question at each position and its answer, the next token.

    tokens, targets: equally many strings, targets one ahead.
    """
    tokens = [visible(token) for token in tokens]
    targets = [visible(target) for target in targets]
    count = len(tokens)
    step = (NARROW * UNITS - 9) / count
    with canvas(1.55, language, note, title) as (figure, axes, say):
        rows = ((tokens, 12, say("tokens")), (targets, 3, say("targets")))
        for row, y, name in rows:
            axes.text(0, y, name, ha="left", va="center", fontsize=SMALL, color=GREY)
            for i, character in enumerate(row):
                x = 9 + (i + 0.5) * step
                warm = y < 10
                color, fill = (AMBER, WARM) if warm else (BLUE, PALE)
                box(axes, x, y, character, 0.86 * step, 3.6, color, fill, size=11)
        for i in range(count):
            x = 9 + (i + 0.5) * step
            arrow(axes, (x, 10.1), (x, 4.9))
            if i + 1 < count:
                axes.plot(
                    [x + 0.3 * step, x + 0.72 * step],
                    [4.9, 10.1],
                    color=AMBER,
                    lw=0.9,
                    ls=":",
                    zorder=1,
                )
        pairs = ", ".join(f"{a} → {b}" for a, b in zip(tokens, targets, strict=True))
        figure.set_label(
            say(
                "{count} tokens in a row, and under each its target, the token that follows: "
                "{pairs}. Each target is the token one place further on.",
                count=count,
                pairs=pairs,
            )
        )
    return figure


def attention_flow(shapes, language=None, note="", title=""):
    """From x to what attention gives, the shape on every arrow.

    shapes: {"x", "q", "scores", "out"} -> shape. k and v are shaped as q, weights as scores.
    """
    x_shape, q_shape, scores, out = (shape(shapes[name]) for name in ("x", "q", "scores", "out"))
    T = min(5, shapes["scores"][-1])
    with canvas(5.6, language, note, title) as (figure, axes, say):
        left, middle, right = 7, 21, 36
        box(axes, middle, 53, say("x: what each position knows"), 26)
        for x, beside, name in ((left, -1, "q"), (middle, 2.6, "k"), (right, 1, "v")):
            arrow(axes, (middle + (x - middle) * 0.5, 51), (x, 46.2))
            axes.text(x + beside, 48.7, f"· W{name}", ha="center", fontsize=SMALL, color=GREY)
        axes.text(34.8, 53, x_shape, ha="left", va="center", fontsize=SMALL, color=GREY)
        asks = (say("asks"), say("offers"), say("tells"))
        for x, name, role in zip((left, middle, right), "qkv", asks, strict=True):
            box(axes, x, 43.7, f"{name}: {role}", 12, 4.4)
        arrow(axes, (left, 41.5), (left + 4, 37.2))
        arrow(axes, (middle, 41.5), (middle - 5, 37.2))
        axes.text(40.4, 39, q_shape, ha="right", va="center", fontsize=SMALL, color=GREY)
        box(axes, 14, 35, say("scores: q kᵀ / √D"), 20)
        arrow(axes, (14, 33), (14, 28.2), scores)
        box(axes, 14, 26, say("mask: no future"), 20, color=AMBER, fill=WARM)
        arrow(axes, (14, 24), (14, 19.2), scores)
        box(axes, 14, 17, say("softmax: rows sum to 1"), 24)
        arrow(axes, (14, 15), (14, 10.2), scores)
        axes.plot([41, 41], [41.5, 8], color=GREY, lw=1.1, zorder=1)
        arrow(axes, (41, 8), (24.2, 8))
        box(axes, 14, 8, say("weights · v"), 20)
        arrow(axes, (14, 6), (14, 1.2), out)
        cell = 1.7

        def masked(row, column):
            return "#cfcfcf" if column > row else BLUE

        def weighted(row, column):
            share = 0.25 + 0.75 * (column + 1) / (row + 1)
            return (
                "#f0f0f0"
                if column > row
                else (0, 0.41 * share, 0.54 * share, 0.25 + 0.7 / (row + 1))
            )

        grid(axes, 29, 26 + T * cell / 2, T, T, cell, masked)
        grid(axes, 29, 16.5 + T * cell / 2 - 1, T, T, cell, weighted)
        figure.set_label(
            say(
                "x, {x_shape}, is multiplied by three matrices and gives q, k and v, each "
                "{q_shape}. Their scores q times k transposed over the root of D are "
                "{scores}; the mask hides the future, softmax makes each row sum to 1, and "
                "the weights times v give {out}.",
                x_shape=x_shape,
                q_shape=q_shape,
                scores=scores,
                out=out,
            )
        )
    return figure


def heads_cut(time, channels, heads, language=None, note="", title=""):
    """The channels of (T, C) cut into heads; each attends alone; then side by side again."""
    width = channels // heads
    shades = np.linspace(0.25, 1, heads)
    with canvas(3.3, language, note, title) as (figure, axes, say):
        span, tall = 28, 6
        colors = [(0, 0.41, 0.54, shade) for shade in shades]
        step = span / heads

        def row_of_heads(y, gap):
            for i, color in enumerate(colors):
                x = 8 + i * (step + gap) - gap * (heads - 1) / 2
                axes.add_patch(Rectangle((x, y), step, tall, fc=color, ec="white", lw=1.2))
                yield x + step / 2

        list(row_of_heads(25, 0))
        axes.text(22, 32, f"(T, C) = ({time}, {channels})", ha="center", fontsize=SMALL, color=GREY)
        gap = 12 / max(1, heads - 1) if heads > 1 else 0
        gap = min(gap, 3)
        for i, x in enumerate(row_of_heads(12.5, gap)):
            arrow(axes, (8 + (i + 0.5) * step, 24.6), (x, 19))
            axes.text(
                x,
                15.5,
                str(i + 1),
                ha="center",
                va="center",
                fontsize=SMALL,
                color="white" if shades[i] > 0.5 else INK,
            )
            arrow(axes, (x, 12.1), (8 + (i + 0.5) * step, 6.6))
        list(row_of_heads(0.3, 0))
        cut = say("{heads} heads of D = C / H = {width}", heads=heads, width=width)
        axes.text(22, 21.4, cut, ha="center", va="center", fontsize=SMALL, color=INK, bbox=GROUND)
        each = say("each attends on its own")
        axes.text(22, 9.6, each, ha="center", va="center", fontsize=SMALL, color=INK, bbox=GROUND)
        figure.set_label(
            say(
                "{time} positions of {channels} channels are cut into {heads} heads of "
                "{width} channels each; every head attends on its own, and their results are "
                "put side by side again.",
                time=time,
                channels=channels,
                heads=heads,
                width=width,
            )
        )
    return figure


def _part(axes, x, y, words, kind):
    fills = {"norm": (GREY, PLAIN), "layer": (BLUE, PALE), "plus": (AMBER, WARM)}
    color, fill = fills[kind]
    width = 4 if kind == "plus" else 15
    box(axes, x, y, words, width, 4 if kind == "plus" else 3.8, color, fill)


def block_sides(language=None, note="", title=""):
    """A block twice: the norm off the residual stream, before a sublayer; or in it, after a sum."""
    with canvas(5.0, language, note, title) as (figure, axes, say):
        attention, mlp = (say("attention"), say("MLP"))
        norm = say("norm")
        columns = (
            (9, say("pre-norm (ours)"), True),
            (32, say("post-norm (2017)"), False),
        )
        for x, name, pre in columns:
            stream, layer = x - 6, x + 4
            axes.text(x, 48.6, name, ha="center", fontsize=SMALL + 1, color=INK)
            y = 1
            axes.text(stream, y, "x", ha="center", va="center", fontsize=11, color=INK)
            for words in (attention, mlp):
                start = y + 1.2
                parts = [(norm, "norm"), (words, "layer")] if pre else [(words, "layer")]
                arrow(axes, (stream, start), (layer, start + 3.1), bend=0.3)
                for place, (label, kind) in enumerate(parts):
                    _part(axes, layer, start + 5 + 5.4 * place, label, kind)
                    if place:
                        arrow(axes, (layer, start + 6.9), (layer, start + 8.5))
                top = start + 5 + 5.4 * (len(parts) - 1) + 1.9
                plus = start + 16.4 if pre else start + 11
                arrow(axes, (layer, top), (stream + 2.1, plus), bend=0.25)
                arrow(axes, (stream, start), (stream, plus - 2), color=AMBER)
                _part(axes, stream, plus, "+", "plus")
                y = plus + 1
                if not pre:
                    arrow(axes, (stream, plus + 2), (stream, plus + 3.6), color=AMBER)
                    _part(axes, stream + 4, plus + 5.6, norm, "norm")
                    y = plus + 6.6
            arrow(axes, (stream, y + 1), (stream, y + 3.6), color=AMBER)
        figure.set_label(
            say(
                "Two blocks side by side. Pre-norm: x plus attention of the normed x, then "
                "plus the MLP of the normed sum; the residual stream runs straight through. "
                "Post-norm: a norm stands in the stream after each sum."
            )
        )
    return figure


def decoder_stack(shapes, layers, language=None, note="", title="", position="learned"):
    """The whole decoder from tokens to logits, with the shape on every arrow.

    shapes: {"tokens", "x", "logits"} -> shape. position: the switch of a GPTConfig; learned and
    sinusoidal ones are added to the embeddings, rotary ones turn queries and keys.
    """
    added, rotary = position in ("learned", "sinusoidal"), position == "rope"
    tokens, x, logits = (shape(shapes[name]) for name in ("tokens", "x", "logits"))
    with canvas(5.6, language, note, title) as (figure, axes, say):
        middle = 20
        plus = say(" + positions") if added else ""
        turned = say(", rotary") if rotary else ""
        rows = (
            (2.5, say("decoder stack|tokens"), "norm", tokens),
            (10.5, say("embedding") + plus, "layer", x),
            (39, say("norm"), "norm", x),
            (
                46,
                say("head: a score for each character"),
                "layer",
                logits,
            ),
        )
        axes.add_patch(
            FancyBboxPatch(
                (5, 15.9),
                30,
                18.2,
                boxstyle="round,pad=0,rounding_size=1",
                fc="none",
                ec=GREY,
                lw=1,
                ls="--",
            )
        )
        axes.text(36.2, 25, f"× {layers}", va="center", fontsize=13, color=INK)
        for y, words, kind, _ in rows:
            color, fill = (GREY, PLAIN) if kind == "norm" else (BLUE, PALE)
            box(axes, middle, y, words, 30, 4, color, fill)
        attention = say("x + attention(norm(x))") + turned
        box(axes, middle, 20, attention, 27, 4.6)
        box(axes, middle, 29.6, say("x + MLP(norm(x))"), 27, 4.6)
        arrow(axes, (middle, 4.5), (middle, 8.5), tokens)
        arrow(axes, (middle, 12.5), (middle, 17.7), x, at=0.28)
        arrow(axes, (middle, 22.3), (middle, 27.3), x)
        arrow(axes, (middle, 31.9), (middle, 37), x, at=0.72)
        arrow(axes, (middle, 41), (middle, 44), x)
        arrow(axes, (middle, 48), (middle, 52), logits)
        axes.text(
            middle,
            53.8,
            say("softmax: what comes next?"),
            ha="center",
            va="center",
            fontsize=SMALL,
            color=INK,
        )
        get = say(" and get their positions") if added else ""
        by_place = say(", which turns queries and keys by their place,")
        by_place = by_place if rotary else ""
        figure.set_label(
            say(
                "Tokens {tokens} are embedded{get}, {x}; {layers} blocks each add "
                "attention{by_place} and then an MLP to x; a norm and the head give logits "
                "{logits}, a score for each character.",
                tokens=tokens,
                get=get,
                x=x,
                layers=layers,
                by_place=by_place,
                logits=logits,
            )
        )
    return figure


def rotary_turn(pairs, degrees_per_position, language=None, note="", title=""):
    """A query and a key as arrows, each turned by its position: their angle tells the distance.

    pairs: two (position of the query, position of the key), equally far apart.
    """
    with canvas(2.7, language, note, title) as (figure, axes, say):
        for (m, n), x in zip(pairs, (11, 33), strict=True):
            axes.add_patch(Circle((x, 12), 9, fc="none", ec="#cccccc", lw=1))
            for position, name, color in ((m, "q", BLUE), (n, "k", AMBER)):
                angle = np.radians(position * degrees_per_position)
                tip = (x + 9 * np.cos(angle), 12 + 9 * np.sin(angle))
                arrow(axes, (x, 12), tip, color=color)
                where = (x + 11 * np.cos(angle), 12 + 10.6 * np.sin(angle))
                axes.text(
                    *where,
                    f"{name}{position}",
                    ha="center",
                    va="center",
                    fontsize=SMALL,
                    color=color,
                )
            low, high = sorted(((m * degrees_per_position) % 360, (n * degrees_per_position) % 360))
            if high - low > 180:
                low, high = high, low + 360
            axes.add_patch(Arc((x, 12), 7, 7, theta1=low, theta2=high, color=INK, lw=1.4))
            axes.text(
                x,
                25.2,
                say("q at {m}, k at {n}", m=m, n=n),
                ha="center",
                fontsize=SMALL,
            )
        apart = abs(pairs[0][0] - pairs[0][1]) * degrees_per_position
        figure.set_label(
            say(
                "Two circles. In each, q and k are arrows turned by {degrees_per_position:g} "
                "degrees a position. The positions differ, {pair} and {other}; the angle "
                "between is {apart:g} degrees in both.",
                degrees_per_position=degrees_per_position,
                pair=pairs[0],
                other=pairs[1],
                apart=apart,
            )
        )
    return figure


def training_step(shapes, language=None, note="", title=""):
    """One training step as data that flows: down to the loss, back as gradients, into the weights.

    shapes: {"tokens", "logits"} -> shape
    """
    tokens, logits = shape(shapes["tokens"]), shape(shapes["logits"])
    with canvas(4.6, language, note, title) as (figure, axes, say):
        left, right = 12.5, 35
        box(axes, left, 43, say("training step|text"), 14, color=GREY, fill=PLAIN)
        arrow(axes, (left, 41), (left, 36.2), say("a batch"))
        box(axes, left, 34, say("tokens, targets"), 15.5)
        arrow(axes, (left, 32), (left, 26.2), tokens)
        box(axes, left, 24, say("model"), 15.5, color=AMBER, fill=WARM)
        arrow(axes, (left, 22), (left, 16.2), logits)
        box(axes, left, 14, say("cross-entropy"), 15.5)
        arrow(axes, (left, 12), (left, 6.2), "()")
        box(axes, left, 4, say("loss"), 14)
        arrow(axes, (left + 7, 4), (right - 7, 4))
        axes.text(23.8, 5.4, "backward", ha="center", fontsize=SMALL, color=GREY)
        box(axes, right, 4, say("gradients"), 14)
        arrow(axes, (right, 6), (right, 11.8))
        box(axes, right, 14, say("clip"), 14)
        arrow(axes, (right, 16), (right, 21.8))
        box(axes, right, 24, say("optimiser"), 14)
        arrow(axes, (right - 7, 24), (left + 7.75, 24), color=AMBER)
        axes.text(24.2, 25.4, say("moves"), ha="center", fontsize=SMALL, color=AMBER)
        box(axes, right, 34, say("learning rate"), 14, color=GREY, fill=PLAIN)
        arrow(axes, (right, 32), (right, 26.2))
        targets = say("targets")
        arrow(axes, (left - 7.75, 34), (left - 7.75, 14), bend=0.25)
        axes.text(
            left - 11.6,
            24,
            targets,
            rotation=90,
            va="center",
            ha="center",
            fontsize=SMALL,
            color=GREY,
        )
        figure.set_label(
            say(
                "One step: a batch of tokens {tokens} goes through the model to logits "
                "{logits}; cross-entropy with the targets gives the loss; backward gives "
                "gradients; they are clipped, and the optimiser moves the model's weights at "
                "the learning rate of this step.",
                tokens=tokens,
                logits=logits,
            )
        )
    return figure


def kv_cache(length, language=None, note="", title=""):
    """What a cache keeps while a text grows by one token: all keys and values but the newest."""
    shown = min(length, 8)
    with canvas(2.9, language, note, title) as (figure, axes, say):
        step = 26 / (shown + 1)
        rows = (
            (21, say("values"), True),
            (14.5, say("keys"), True),
            (6, say("query"), False),
        )
        for y, name, kept in rows:
            axes.text(0, y, name, ha="left", va="center", fontsize=SMALL, color=INK)
            for i in range(shown + 1):
                newest = i == shown
                if not (kept or newest):
                    continue
                color, fill = (AMBER, WARM) if newest else (GREY, PLAIN)
                box(axes, 12 + (i + 0.5) * step, y, "", 0.84 * step, 4.4, color, fill)
        newest = 12 + (shown + 0.5) * step
        for i in range(shown + 1):
            arrow(axes, (newest, 8.3), (12 + (i + 0.5) * step, 12.2), color="#bbbbbb")
        axes.text(
            12 + shown * step / 2,
            26,
            say("kept: {length} tokens", length=length),
            ha="center",
            fontsize=SMALL,
            color=GREY,
        )
        axes.text(newest, 26, say("new: 1"), ha="center", fontsize=SMALL, color=AMBER)
        below = say("one row of scores, not the whole square")
        axes.text(44, 1.4, below, ha="right", fontsize=SMALL, color=INK)
        figure.set_label(
            say(
                "Keys and values of {length} tokens lie in the cache. The newest token adds "
                "one key, one value and one query, and its query meets all keys: one row of "
                "scores instead of the whole square.",
                length=length,
            )
        )
    return figure
