"""Pictures from inside a model: its vectors, its guesses on the way, its heads, its parts."""

import numpy as np
from matplotlib.ticker import NullFormatter

from course_utils.figures.drawing import (
    BLUE,
    GREY,
    NIGHT,
    SMALL,
    end_at,
    explain,
    head,
    list_down,
    looks,
    marked,
    open_figure,
    padded,
)
from course_utils.figures.labels import End, baseline_ends, beside, draw_baselines, name_ends
from course_utils.figures.numbers import heatmaps
from course_utils.figures.words import speaker, translated, visible
from course_utils.messages import N_, _

KINDS = {
    "vowels": (N_("orange: vowels"), "AEIOUaeiou"),
    "consonants": (N_("blue: consonants"), "BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"),
    "others": (N_("navy: all else"), ""),
}
MOST_COLUMNS = 36  # characters side by side that a phone can still show
MAP_SIZE = np.array([6.1, 4.4])  # inches
MOST_ON_A_MAP = 150  # characters that can be told apart there


def unit(vectors):
    """Each row scaled to length 1; a row of zeros stays."""
    vectors = np.asarray(vectors, float)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def push_apart(places, sizes, rounds=500):
    """Points moved until boxes of these sizes around them do not overlap. places, sizes: (N, 2)."""
    places = np.array(places, float)
    sizes = np.asarray(sizes, float)
    needed = (sizes[:, None] + sizes) / 2
    order = np.arange(len(places))
    side = np.sign(order[:, None] - order)[..., None]  # which way, where two lie on one spot
    for _round in range(rounds):
        apart = places[:, None] - places
        overlap = (needed - np.abs(apart)) * (side != 0)
        both = (overlap > 1e-9).all(-1, keepdims=True)
        if not both.any():
            break
        shorter = overlap == overlap.min(-1, keepdims=True)  # out by the nearer edge
        signs = np.where(apart == 0, side, np.sign(apart))
        places += 0.3 * np.where(both & shorter, signs * (overlap + 1e-3), 0).sum(1)
    return places


def flatten(vectors):
    """Vectors along the two directions that vary most, scaled to MAP_SIZE.

    -> places (N, 2), the two directions' shares of the variation
    """
    left, strengths, _ = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    flat = left[:, :2] * strengths[:2]
    places = (flat - flat.min(0)) / np.ptp(flat, axis=0) * (MAP_SIZE - 0.3) + 0.15
    return places, (strengths**2 / (strengths**2).sum())[:2]


def kind_of(character):
    """The kind of a character: a key of KINDS."""
    return next((kind for kind, (*_, signs) in KINDS.items() if character in signs), "others")


def character_map(vectors, characters, language=None, note="", title=""):
    """Which characters a model holds to be alike: vectors along the two directions that vary most.

    vectors: (V, C), one for each of the characters; of very many, some at even distances in their
    order are shown. The alt text names the closest pairs.
    """
    everyone = len(characters)
    some = np.linspace(0, everyone - 1, min(everyone, MOST_ON_A_MAP)).round().astype(int)
    vectors = unit(vectors)[some]
    characters = [characters[i] for i in some]
    flat, shares = flatten(vectors)
    labels = [visible(character) for character in characters]
    places = push_apart(flat, [(0.04 + 0.11 * len(label), 0.2) for label in labels])
    with open_figure(5.0, language, note) as (figure, say):
        axes = figure.subplots()
        styles = looks(KINDS)
        for label, character, (x, y) in zip(labels, characters, places, strict=True):
            look = {"color": styles[kind_of(character)]["color"], "fontsize": 12}
            middle = {"ha": "center", "va": "center", "label": f"character {label}"}
            axes.text(x, y, label, **middle, **look)
        axes.set(xlim=(-0.15, MAP_SIZE[0]), ylim=(-0.1, MAP_SIZE[1] + 0.1), xticks=[], yticks=[])
        words = say("{} direction of most variation ({:.0%} of it)")
        axes.set_xlabel(words.format(say("first"), shares[0]))
        axes.set_ylabel(words.format(say("second"), shares[1]))
        kinds = " · ".join(say(words) for words, _ in KINDS.values())
        shown = say("{} of {:,} characters are shown")
        part = [shown.format(len(some), everyone)] if len(some) < everyone else []
        explain(axes, " · ".join([kinds, *part]))
        head(figure, title)
        figure.set_label(" ".join([map_in_words(vectors, labels, say), *part]))
    return figure


def map_in_words(vectors, labels, say):
    """The alt text of a map: the five closest pairs. vectors: of length 1."""
    later = np.tri(len(vectors), dtype=bool)  # a pair counts once, and none with itself
    alike = np.where(later, -2, vectors @ vectors.T)
    closest = zip(*np.unravel_index(np.argsort(-alike, axis=None)[:5], alike.shape), strict=True)
    pairs = ", ".join(f"{labels[i]} {labels[j]} {alike[i, j]:.2f}" for i, j in closest)
    words = say("A map of {} characters; closest, by cosine: {}.")
    return words.format(len(labels), pairs)


def position_similarity(positions, language=None, note="", title=""):
    """How alike the vectors of two positions are, in several models: all pairs, and by distance.

    positions: name -> (T, C) vectors, the same T for all. Alike: the cosine of their angle, from -1
    to 1; by distance: its mean over all pairs that lie so far apart.
    """
    cosines = {
        translated(name, language): unit(vectors) @ unit(vectors).T
        for name, vectors in positions.items()
    }
    means = {
        name: [np.diagonal(cosine, k).mean() for k in range(len(cosine))]
        for name, cosine in cosines.items()
    }
    with open_figure(4.6, language, note) as (figure, say):
        upper, lower = figure.subfigures(2, 1, height_ratios=(2.3, 2.6))
        draw_pairs(upper, cosines, say)
        draw_by_distance(lower.subplots(), means, say)
        head(figure, title)
        figure.set_label(similarity_in_words(means, say))
    return figure


def draw_pairs(figure, cosines, say):
    """A panel a model: the cosine of each pair of positions."""
    panels = figure.subplots(1, len(cosines), sharey=True, squeeze=False)[0]
    for axes, (name, values) in zip(panels, cosines.items(), strict=True):
        image = axes.imshow(values, vmin=-1, vmax=1, label=name)
        axes.set_title(name, fontsize=SMALL)
        axes.grid(visible=False)
        axes.set_xlabel(say("position"))
    panels[0].set_ylabel(say("position"))
    figure.colorbar(image, ax=panels, label=say("cosine"), shrink=0.8)


def draw_by_distance(axes, means, say):
    """A line a model: the mean cosine of positions so far apart."""
    styles = looks(means)
    ends = []
    for name, mean in means.items():
        axes.plot(mean, **marked(styles[name], len(mean)), lw=1.6, ms=5, label=f"{name} mean")
        ends.append(End(len(mean) - 1, mean[-1], name, styles[name]["color"]))
    axes.set(xlim=(0, ends[0].x), ylim=padded(list(means.values())))
    axes.set_xlabel(say("distance (positions)"))
    axes.set_ylabel(say("mean cosine"))
    name_ends(axes, ends)


def similarity_in_words(means, say):
    """The alt text of similarities: neighbours, and positions half the context apart."""
    half = len(next(iter(means.values()))) // 2
    listed = (f"{name} {mean[1]:.2f} / {mean[half]:.2f}" for name, mean in means.items())
    words = say("Mean cosine of positions 1 / {} apart: {}.")
    return words.format(half, ", ".join(listed))


def logit_lens(guesses, probabilities, text, language=None, note="", title=""):
    """What the model would guess if it stopped after each layer, and how likely it finds the truth.

    guesses: (S, T) characters, the likeliest after each stage, the embedding first. probabilities:
    (S, T) of the character that came. text: T + 1 characters; the guess below its i-th is for the
    one after.
    """
    probabilities = np.asarray(probabilities, float)
    T = len(text) - 1
    if T > MOST_COLUMNS:
        words = _(
            "{n} characters are more than the {most} that a phone can show", n=T, most=MOST_COLUMNS
        )
        raise ValueError(words)
    with open_figure(1.7 + 0.3 * len(guesses), language, note) as (figure, say):
        axes = figure.subplots()
        layers = (say("layer {i}", i=i) for i in range(1, len(guesses)))
        stages = [say("embedding"), *layers]
        image = axes.imshow(probabilities, vmin=0, vmax=1, aspect="auto", label="probability")
        for (row, column), p in np.ndenumerate(probabilities):
            look = {"color": "black" if p > 0.5 else "white", "fontsize": SMALL}
            guess = visible(guesses[row][column])
            axes.text(column, row, guess, ha="center", va="center", **look)
        axes.set_yticks(range(len(guesses)), stages)
        name_columns(axes, text[:-1], say("what the model has just read"))
        next_one = say("what comes next")
        name_columns(axes.secondary_xaxis("top"), text[1:], next_one)
        axes.grid(visible=False)
        figure.colorbar(image, label=say("probability"), pad=0.02)
        head(figure, title)
        figure.set_label(lens_in_words(guesses, stages, text, say))
    return figure


def name_columns(axes, characters, label):
    """A character at each column, without a tick."""
    axes.set_xticks(range(len(characters)), map(visible, characters))
    axes.set_xlabel(label)
    axes.tick_params(length=0, labelsize=SMALL)


def lens_in_words(guesses, stages, text, say):
    """The alt text of a lens: how many guesses are right after each stage."""
    right = [sum(a == b for a, b in zip(row, text[1:], strict=True)) for row in guesses]
    listed = ", ".join(f"{stage} {hits}" for stage, hits in zip(stages, right, strict=True))
    words = say("Right guesses of {} after each stage: {}.")
    return words.format(len(text) - 1, listed)


def attention_maps(weights, text, language=None, note="", title=""):
    """Where each head looks while it reads: a row a character that looks, a column one looked at.

    weights: (L, H, T, T), each row summing to 1. ValueError if a head looks ahead: its mask is
    missing.
    """
    weights = np.asarray(weights, float)
    L, H, T = weights.shape[:3]
    ahead = np.triu(np.ones((T, T), bool), 1)
    for layer, head_ in np.ndindex(L, H):
        if np.abs(weights[layer, head_][ahead]).max(initial=0) > 1e-6:
            raise ValueError(
                _(
                    "layer {layer}, head {head} looks ahead: its mask is missing",
                    layer=layer + 1,
                    head=head_ + 1,
                )
            )
    say = speaker(language)
    back = (weights * (np.arange(T)[:, None] - np.arange(T))).sum(-1).mean(-1)  # (L, H) characters
    form = say("layer {} · head {}: {:.1f} back")
    titles = [form.format(i + 1, j + 1, back[i, j]) for i, j in np.ndindex(L, H)]
    labels = (say("reader"), say("looked at"), say("weight (share)"))
    masked = np.where(ahead, np.nan, weights).reshape(L * H, T, T)
    figure = heatmaps(masked, list(text), list(text), titles, labels, language, note, title)
    words = say("How many characters each head looks back on average: ")
    figure.set_label(words + ", ".join(titles))
    return figure


def parts_removed(losses, intact, language=None, note="", title=""):
    """What the model loses when one part is switched off, in the order given.

    losses: part -> nats/character; intact: those of the whole model.
    """
    extra = {translated(part, language): float(loss) - intact for part, loss in losses.items()}
    with open_figure(1.2 + 0.34 * len(extra), language, note) as (figure, say):
        axes = figure.subplots()
        values = list(extra.values())
        axes.hlines(range(len(extra)), 0, values, color=BLUE, lw=1.5)
        axes.plot(values, range(len(extra)), "o", color=BLUE, label="extra loss")
        for row, value in enumerate(values):
            beside(axes, max(value, 0), row, f"{value:+z.3f}")
        axes.axvline(0, color=GREY, lw=0.8)
        list_down(axes, list(extra))
        low = min(0, *values)
        high = max(1e-3, *values)
        axes.set_xlim(low - 0.03 * (high - low), high + 0.16 * (high - low))
        words = say("extra loss (nats/character; intact: {:.3f})")
        axes.set_xlabel(words.format(intact))
        head(figure, title)
        figure.set_label(parts_in_words(extra, say))
    return figure


def parts_in_words(extra, say):
    """The alt text of parts removed. extra: part -> its extra loss."""
    listed = ", ".join(f"{part} {value:+z.3f}" for part, value in extra.items())
    words = say("Extra loss, in nats/character, without: {}.")
    return words.format(listed)


def loss_by_position(losses, baselines=None, errors=None, language=None, note="", title=""):
    """How the loss falls with what has been read: a dot a position, a line through means.

    losses: (T,) nats/character at the 1st … T-th position, after as many characters. The means are
    those over positions 1, 2, 3–4, 5–8, …. errors: the standard error of each, for a band of two of
    them on either side.
    """
    losses = np.asarray(losses, float)
    read = np.arange(1, len(losses) + 1)
    with open_figure(3.6, language, note) as (figure, say):
        axes = figure.subplots()
        axes.set(xscale="log", xlim=(0.9, 1.1 * read[-1]), ylim=padded(losses, baselines))
        axes.xaxis.set(major_formatter="{x:g}", minor_formatter=NullFormatter())
        if errors is not None:
            reach = 2 * np.asarray(errors, float)
            look = {"color": BLUE, "alpha": 0.15, "lw": 0, "label": "two standard errors"}
            axes.fill_between(read, losses - reach, losses + reach, **look)
        axes.plot(read, losses, "o", color=BLUE, alpha=0.35, ms=3, label="positions")
        axes.plot(*doubling_means(read, losses), "-", color=NIGHT, lw=1.8, label="means")
        drawn = draw_baselines(axes.axhline, axes.get_ylim(), baselines, language)
        name_ends(axes, baseline_ends(drawn, read[-1]))
        end_at(axes, read)
        key = say("dots: positions · line: means over 1, 2, 3–4, 5–8, …")
        if errors is not None:
            key += say(" · band: ± 2 standard errors")
        explain(axes, key, *drawn.beyond)
        axes.set_xlabel(say("characters read so far in this window"))
        axes.set_ylabel(say("loss (nats/character)"))
        head(figure, title)
        words = say("Loss after 1 character {:.2f}, over the last half {:.2f}.")
        figure.set_label(words.format(losses[0], losses[len(losses) // 2 :].mean()))
    return figure


def doubling_means(*columns):
    """The means of each column over its first entry, the next, the next two, four, eight, …"""
    bins = np.ceil(np.log2(np.arange(1, len(columns[0]) + 1))).astype(int)
    return [[column[bins == b].mean() for b in range(bins.max() + 1)] for column in columns]
