"""Pictures of text: how often characters occur, which comes next, what the models write."""

import numpy as np
from matplotlib.ticker import MaxNLocator, NullFormatter

from course_utils.figures.drawing import (
    GREY,
    SMALL,
    drawable,
    fold,
    fonts,
    head,
    looks,
    name,
    open_figure,
    padded,
    visible,
)

HUMAN = "human reference"
QUALITY = {
    "distinct_2": ("distinct pairs\n(share)", "不同词对\n（比例）"),
    "repetition": ("repetition\n(share)", "重复\n（比例）"),
    "known_words": ("known words\n(share)", "已知词\n（比例）"),
    "longest_copy": ("longest copy\n(characters)", "最长照抄\n（字符）"),
    "five_gram_loss": ("5-gram loss\n(nats/char.)", "五元语法损失\n（奈特/字符）"),
}


def character_counts(counts, language="english", note="", title=""):
    """How often each character occurs, in the order given, on a logarithmic scale. counts: Series by character."""
    n_rows = -(-len(counts) // 36)
    per_row = -(-len(counts) // n_rows)
    with open_figure(0.7 + 1.7 * n_rows, language, note) as (figure, say):
        for i, axes in enumerate(figure.subplots(n_rows, sharey=True, squeeze=False).flat):
            part = counts.iloc[i * per_row : (i + 1) * per_row]
            axes.semilogy(range(len(part)), part, "o", color="#00688a", ms=5, label="counts")
            axes.set_xticks(range(len(part)), [visible(character) for character in part.index])
            axes.set_xlim(-0.7, per_row - 0.3)
            axes.yaxis.set(major_formatter="{x:,.0f}", minor_formatter=NullFormatter())
            axes.tick_params(axis="x", length=0)
        figure.supylabel(say("count (log scale)", "出现次数（对数坐标）"), fontsize=11)
        axes.set_xlabel(say("character", "字符"))
        head(figure, title)
        most, least = counts.idxmax(), counts.idxmin()
        alt = say(
            "Counts of {} characters, from {} ({:,}) to {} ({:,}).",
            "{} 种字符的次数，从 {}（{:,}）到 {}（{:,}）。",
        )
        figure.set_label(
            alt.format(len(counts), visible(most), counts[most], visible(least), counts[least])
        )
    return figure


def next_character(probabilities, language="english", note="", title="", n=28):
    """How sampling settings change the next character's distribution: filled after, hollow before.

    probabilities: a row a character, a column a setting; the first column is the distribution before. A character
    that a setting cuts (probability 0) keeps only its outline. The n most likely are drawn.
    """
    ordered = probabilities.sort_values(probabilities.columns[0], ascending=False, kind="stable")
    characters, (before, *settings) = (
        [visible(character) for character in ordered.index[:n]],
        ordered.columns,
    )
    places, told = range(len(characters)), []
    with open_figure(0.7 + 1.4 * len(settings), language, note) as (figure, say):
        panels = figure.subplots(len(settings), squeeze=False, sharex=True, sharey=True)[:, 0]
        for axes, setting in zip(panels, settings, strict=True):
            axes.bar(places, ordered[setting].iloc[:n], color="#00688a", label="after")
            axes.bar(
                places,
                ordered[before].iloc[:n],
                fill=False,
                edgecolor="#222222",
                lw=0.8,
                label="before",
            )
            kept = say("{} of {} characters kept", "保留 {} / {} 个字符")
            axes.set_title(
                f"{drawable(setting)} · {kept.format((ordered[setting] > 0).sum(), len(ordered))}"
            )
            told.append(f"{setting} {ordered[setting].iloc[0]:.2f}")
            axes.grid(visible=False, axis="x")
            axes.tick_params(axis="x", length=0)
        axes.set_xticks(places, characters)
        axes.set_xlim(-0.7, len(characters) - 0.3)
        axes.set_xlabel(
            say("next character (outline: {})", "下一个字符（轮廓：{}）").format(drawable(before))
        )
        figure.supylabel(say("probability", "概率"), fontsize=11)
        head(figure, title)
        alt = say(
            "Probability of the next character; of the likeliest, {}: {} {:.2f}, {}.",
            "下一个字符的概率；最可能的 {}：{} {:.2f}，{}。",
        )
        figure.set_label(
            alt.format(characters[0], before, ordered[before].iloc[0], ", ".join(told))
        )
    return figure


def sample_comparison(generations, language="english", note=""):
    """What the models write after one prompt, and how their texts measure against held-out human text.

    generations: rows with arm (one is "human reference"), temperature, top_k, top_p, prompt, text and the columns of
    QUALITY. Drawn are the setting and the prompt of the first row; a small dot a sample, a large one for their mean.
    """
    human = generations["arm"] == HUMAN
    settings = generations[["temperature", "top_k", "top_p"]].astype(float)
    setting, prompt = settings[~human].iloc[0], generations.loc[~human, "prompt"].iloc[0]
    generations = generations[human | (settings.fillna(-1) == setting.fillna(-1)).all(axis=1)]
    styles = looks(arm for arm in generations["arm"] if arm != HUMAN)
    styles |= {HUMAN: {"color": GREY, "marker": "D", "mfc": "white"}} if human.any() else {}
    arms, rows = [name(arm, language) for arm in styles], -(-len(styles) // 2)
    heights = 1.7 * rows, 1.2 + 0.3 * len(arms)
    with open_figure(sum(heights), language, note) as (figure, say):
        upper, lower = figure.subfigures(2, 1, height_ratios=heights)
        panels, measures = (
            upper.subplots(rows, 2).ravel(),
            lower.subplots(1, len(QUALITY), sharey=True),
        )
        for axes in panels:
            axes.axis("off")
        for row, (arm, look) in enumerate(styles.items()):
            own = generations[generations["arm"] == arm]
            excerpt = [*own.loc[own["prompt"] == prompt, "text"], *own["text"]][0].strip()[:600]
            panels[row].set_title(arms[row], color=look["color"])
            at = {"va": "top", "transform": panels[row].transAxes, "in_layout": False}
            at |= {"fontsize": 9, "family": ["DejaVu Sans Mono", *fonts("english")]}
            panels[row].text(0, 1, "\n".join(fold(excerpt, 43, indent="  ")[:8]) + " …", **at)
            for axes, measure in zip(measures, QUALITY, strict=True):
                small = {"color": look["color"], "alpha": 0.4, "ms": 3, "label": f"{arm} samples"}
                axes.plot(own[measure], np.full(len(own), row), "o", **small)
                axes.plot(own[measure].mean(), row, **look, ms=8, label=arm)
                if arm == HUMAN:
                    axes.axvline(own[measure].mean(), color=GREY, lw=0.8, ls=":", zorder=1)
        for axes, (measure, words) in zip(measures, QUALITY.items(), strict=True):
            axes.set_xlabel(say(*words), fontsize=SMALL)
            axes.set(xlim=padded(generations[measure]), ylim=(len(arms) - 0.5, -0.5))
            axes.xaxis.set_major_locator(MaxNLocator(2))
            axes.set_yticks(range(len(arms)), arms)
            axes.tick_params(axis="y", length=0)
        title = say("What the models write after “{}”", "模型在“{}”之后写出的文字").format(
            visible(prompt)
        )
        values = [say("off", "不用") if np.isnan(value) else f"{value:g}" for value in setting]
        how = say("temperature {} · top-k {} · top-p {}", "温度 {} · top-k {} · top-p {}").format(
            *values
        )
        head(figure, f"{title}\n{how}")
        known = generations.groupby("arm")["known_words"].mean()
        shares = ", ".join(
            f"{text} {known[arm]:.0%}".replace("nan%", "–")
            for arm, text in zip(styles, arms, strict=True)
        )
        alt = say("{} ({}). Share of known words: {}.", "{}（{}）。已知词的比例：{}。")
        figure.set_label(alt.format(title, how, shares))
    return figure
