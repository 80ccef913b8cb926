"""Pictures of text: how often characters occur, which comes next, what the models write."""

import math

import numpy as np
from matplotlib.ticker import MaxNLocator, NullFormatter

from course_utils.figures.drawing import (
    BLUE,
    GREY,
    INK,
    SMALL,
    head,
    list_down,
    looks,
    open_figure,
    padded,
)
from course_utils.figures.words import MEASURES, fold, fonts, translated, visible

PER_ROW = 36  # characters side by side, at most
SETTING = ["temperature", "top_k", "top_p"]


def character_counts(counts, language=None, note="", title=""):
    """How often each character occurs, in the order given, on a logarithmic scale.

    counts: Series by character.
    """
    n_rows = math.ceil(len(counts) / PER_ROW)
    per_row = math.ceil(len(counts) / n_rows)
    with open_figure(0.7 + 1.7 * n_rows, language, note) as (figure, say):
        for i, axes in enumerate(figure.subplots(n_rows, sharey=True, squeeze=False).flat):
            part = counts.iloc[i * per_row : (i + 1) * per_row]
            axes.semilogy(range(len(part)), part, "o", color=BLUE, ms=5, label="counts")
            axes.set_xticks(range(len(part)), [visible(character) for character in part.index])
            axes.set_xlim(-0.7, per_row - 0.3)
            axes.yaxis.set(major_formatter="{x:,.0f}", minor_formatter=NullFormatter())
            axes.tick_params(axis="x", length=0)
        figure.supylabel(say("count (log scale)"), fontsize=11)
        axes.set_xlabel(say("character"))
        head(figure, title)
        figure.set_label(counts_in_words(counts, say))
    return figure


def counts_in_words(counts, say):
    """The alt text of characters' counts."""
    words = say("Counts of {} characters, from {} ({:,}) to {} ({:,}).")
    ends = [part for c in (counts.idxmax(), counts.idxmin()) for part in (visible(c), counts[c])]
    return words.format(len(counts), *ends)


def next_character(probabilities, language=None, note="", title="", n=28):
    """How sampling settings change the next character's distribution: filled after, hollow before.

    probabilities: a row a character, a column a setting; the first column is the distribution
    before. A character that a setting cuts (probability 0) keeps only its outline. The n most
    likely are drawn.
    """
    before, *settings = probabilities.columns
    ordered = probabilities.sort_values(before, ascending=False, kind="stable")
    drawn = ordered.iloc[:n]
    places = range(len(drawn))
    with open_figure(0.7 + 1.4 * len(settings), language, note) as (figure, say):
        panels = figure.subplots(len(settings), squeeze=False, sharex=True, sharey=True)[:, 0]
        kept = say("{} of {} characters kept")
        outline = {"fill": False, "edgecolor": INK, "lw": 0.8, "label": "before"}
        for axes, setting in zip(panels, settings, strict=True):
            axes.bar(places, drawn[setting], color=BLUE, label="after")
            axes.bar(places, drawn[before], **outline)
            count = kept.format((ordered[setting] > 0).sum(), len(ordered))
            axes.set_title(f"{translated(setting, language)} · {count}")
            axes.grid(visible=False, axis="x")
            axes.tick_params(axis="x", length=0)
        axes.set_xticks(places, [visible(character) for character in drawn.index])
        axes.set_xlim(-0.7, len(drawn) - 0.3)
        words = say("next character (outline: {})")
        axes.set_xlabel(words.format(translated(before, language)))
        figure.supylabel(say("probability"), fontsize=11)
        head(figure, title)
        named = ordered.rename(columns=lambda setting: translated(setting, language))
        figure.set_label(likeliest_in_words(named, say))
    return figure


def likeliest_in_words(ordered, say):
    """The alt text of next characters. ordered: the table, its likeliest character first."""
    words = say("Probability of the next character; of the likeliest, {}: {}.")
    listed = (f"{setting} {p:.2f}" for setting, p in ordered.iloc[0].items())
    return words.format(visible(ordered.index[0]), ", ".join(listed))


def sample_comparison(generations, language=None, note=""):
    """What the models write after one prompt, and how their texts measure against human text.

    generations: rows with arm, temperature, top_k, top_p, prompt, text and the columns of MEASURES;
    rows without a temperature are held-out human text. Drawn are the setting and the prompt of the
    first row; a small dot a sample, a large one for their mean.
    """
    human = generations["temperature"].isna()
    settings = generations[SETTING].astype(float)
    setting = settings[~human].iloc[0]
    prompt = generations.loc[~human, "prompt"].iloc[0]
    generations = generations[human | (settings.fillna(-1) == setting.fillna(-1)).all(axis=1)]
    styles = looks(generations.loc[~human, "arm"])
    styles |= {arm: {"color": GREY, "marker": "D"} for arm in generations.loc[human, "arm"]}
    names = {arm: translated(arm, language) for arm in styles}
    above = 1.7 * math.ceil(len(styles) / 2)
    below = 1.2 + 0.3 * len(styles)
    with open_figure(above + below, language, note) as (figure, say):
        upper, lower = figure.subfigures(2, 1, height_ratios=(above, below))
        panels = upper.subplots(math.ceil(len(styles) / 2), 2).ravel()
        for axes in panels:
            axes.axis("off")
        for axes, (arm, look) in zip(panels, styles.items(), strict=False):
            axes.set_title(names[arm], color=look["color"])
            write_excerpt(axes, excerpt(generations[generations["arm"] == arm], prompt))
        measures = lower.subplots(1, len(MEASURES), sharey=True)
        for axes, measure in zip(measures, MEASURES, strict=True):
            draw_measure(axes, generations, measure, styles)
            list_down(axes, list(names.values()), lines=True)
            axes.set_xlabel(measure_label(measure, say), fontsize=SMALL)
        title = say("What the models write after “{}”")
        title = title.format(visible(prompt))
        how = setting_in_words(setting, say)
        head(figure, f"{title}\n{how}")
        words = say("{} ({}). Share of known words: {}.")
        figure.set_label(words.format(title, how, known_in_words(generations, names)))
    return figure


def excerpt(texts, prompt):
    """The beginning of the first text after this prompt, or of the first that there is."""
    after_prompt = texts.loc[texts["prompt"] == prompt, "text"]
    return [*after_prompt, *texts["text"]][0].strip()[:600]


def write_excerpt(axes, text):
    """A text's first lines, in a fixed-width font, from the upper left corner."""
    lines = fold(text, 43, indent="  ")[:8]
    look = {"fontsize": 9, "family": ["DejaVu Sans Mono", *fonts("english")]}
    at = {"va": "top", "transform": axes.transAxes, "in_layout": False}
    axes.text(0, 1, "\n".join(lines) + " …", **at, **look)


def draw_measure(axes, generations, measure, styles):
    """One measure of all texts: a row an arm; where people are, a line through all rows."""
    values = MEASURES[measure].times * generations[measure]
    for row, (arm, look) in enumerate(styles.items()):
        of_arm = generations["arm"] == arm
        small = {"color": look["color"], "alpha": 0.4, "ms": 3, "label": f"{arm} samples"}
        axes.plot(values[of_arm], np.full(of_arm.sum(), row), "o", **small)
        people = generations.loc[of_arm, "temperature"].isna().all()
        hollow = {"mfc": "white"} if people else {}
        mean = values[of_arm].mean()
        axes.plot(mean, row, **look, **hollow, ms=8, label=arm)
        if people:
            axes.axvline(mean, color=GREY, lw=0.8, ls=":", zorder=1)
    number_ends(axes, values)
    axes.tick_params(axis="y", length=0)


def number_ends(axes, values):
    """Two round numbers around all values, far enough from the next panel's to be told apart."""
    low, high = np.clip(padded(values), 0, None)
    low, *_, high = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)
    axes.set_xticks([low, high])
    room = 0.35 * (high - low)
    axes.set_xlim(low - room, high + room)


def measure_label(measure, say):
    """A measure's name and unit below it."""
    name, unit, _ = MEASURES[measure]
    return say("{name}\n({unit})", name=say(name), unit=say(unit))


def setting_in_words(setting, say):
    """How a text was drawn: "temperature 0.8 · top-k off · top-p 0.9"."""
    values = [say("off") if np.isnan(value) else f"{value:g}" for value in setting]
    words = say("temperature {} · top-k {} · top-p {}")
    return words.format(*values)


def known_in_words(generations, names):
    """Each arm's share of known words; a dash where it wrote no word."""
    known = generations.groupby("arm")["known_words"].mean()
    shares = {arm: "–" if np.isnan(known[arm]) else f"{known[arm]:.0%}" for arm in names}
    return ", ".join(f"{name} {shares[arm]}" for arm, name in names.items())
