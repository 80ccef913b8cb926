"""Pictures of a study: its learning curves, what each arm reaches, and what more parameters buy."""

import numpy as np
import pandas as pd
from matplotlib.ticker import EngFormatter, FormatStrFormatter, MaxNLocator, NullFormatter

from course_utils.figures.drawing import (
    GREY,
    SMALL,
    ends_of,
    explain,
    head,
    list_down,
    looks,
    marked,
    open_figure,
    padded,
    seed_dots,
)
from course_utils.figures.labels import (
    BACK,
    End,
    baseline_ends,
    beside,
    draw_baselines,
    label_ends,
    last_of,
    make_room,
    name_ends,
)
from course_utils.figures.words import (
    LOSS,
    LOSSES,
    PARAMETERS,
    PERPLEXITY,
    three_digits,
    translated,
)
from course_utils.messages import N_

FIRST = N_("training at first")
X_LABELS = {
    "step": N_("training step"),
    "characters": N_("characters seen"),
    "epoch": N_("epoch (as many characters as the training text has)"),
    "elapsed_s": N_("time (s)"),
}


def training_curves(curves, baselines, language=None, note="", recorded=None, x="step", title=""):
    """Validation loss as each arm trains: a thin line a seed, a thick one for their mean.

    The training loss is dashed. curves, recorded: rows with arm, seed, step, characters, elapsed_s,
    training_loss, validation_loss; recorded is drawn faintly behind. baselines: name ->
    nats/character. x: a column in X_LABELS. The loss axis fits what comes after the
    first tenth; where the record is far longer, the x axis is logarithmic.
    """
    if x not in X_LABELS:
        raise ValueError(f"unknown x {x!r}; allowed are {', '.join(X_LABELS)}")
    recorded = curves.iloc[:0] if recorded is None else recorded
    logarithmic = recorded[x].max() > 3 * curves[x].max()
    if logarithmic:  # such an axis has no place for 0
        curves = curves[curves[x] > 0]
        recorded = recorded[recorded[x] > 0]
    both = pd.concat([curves, recorded])
    later = pd.concat(rows[rows[x] >= 0.1 * rows[x].max()] for rows in (curves, recorded))
    with open_figure(4.2, language, note) as (figure, say):
        axes = figure.subplots()
        axes.set(xscale="log" if logarithmic else "linear", xlim=ends_of(both[x]))
        axes.set_ylim(padded(later[["training_loss", "validation_loss"]], baselines))
        axes.xaxis.set(major_formatter=form_of(x), minor_formatter=NullFormatter())
        axes.set(xlabel=say(X_LABELS[x]), ylabel=say(LOSSES))
        styles = looks(both["arm"])
        for arm, runs in recorded.groupby("arm", sort=False):
            draw_recorded(axes, runs, x, arm, styles[arm]["color"])
        for arm, runs in curves.groupby("arm", sort=False):
            draw_seeds(axes, runs, x, arm, styles[arm]["color"])
            draw_means(axes, runs, x, arm, styles[arm])

        ends = [
            last_point(runs, x, translated(arm, language), styles[arm]["color"])
            for arm, runs in curves.groupby("arm", sort=False)
        ]
        levels = dict(baselines or {})
        trained = curves.dropna(subset="training_loss")
        begins = trained.loc[trained["step"] == trained["step"].min(), "training_loss"].mean()
        if begins > axes.get_ylim()[1]:  # what is cut off is said
            levels[FIRST] = begins
        drawn = draw_baselines(axes.axhline, axes.get_ylim(), levels, language)
        last = max(last_of(ends), curves[x].max())  # a seed's thin line may go on beyond the mean
        name_ends(axes, ends + baseline_ends(drawn, last))
        add_perplexity(axes, say(PERPLEXITY))
        explain(axes, curves_key(curves, len(recorded) > 0, say), *drawn.beyond)
        head(figure, title or say("How the loss falls"))
        figure.set_label(curves_in_words(ends, x, say))
    return figure


def form_of(x):
    """How an x axis writes its numbers: steps as 2k, epochs as 0.5."""
    return FormatStrFormatter("%g") if x == "epoch" else EngFormatter(sep="")


def measured(rows):
    """The rows in which there was an evaluation."""
    return rows.dropna(subset="validation_loss")


def mean_curve(runs):
    """The mean over the seeds of one arm, for the steps that every seed reached."""
    steps = runs.groupby("step", as_index=False)
    return steps.mean(numeric_only=True)[(steps.size()["size"] == runs["seed"].nunique()).values]


def draw_recorded(axes, runs, x, arm, color):
    """The mean of recorded runs, wide and faint, so that a reader's own lie on it."""
    mean = measured(mean_curve(runs))
    axes.plot(mean[x], mean.validation_loss, color=color, alpha=0.3, lw=4, label=f"{arm} recorded")


def draw_seeds(axes, runs, x, arm, color):
    """A thin line a seed; a ring where a seed was evaluated once."""
    for seed, run in runs.groupby("seed"):
        look = {"alpha": 0.5, "lw": 0.8}
        run = measured(run)
        if len(run) == 1:
            look |= {"alpha": 1, "marker": "o", "mfc": "none", "ms": 5}
        axes.plot(run[x], run.validation_loss, color=color, **look, label=f"{arm} seed {seed}")


def draw_means(axes, runs, x, arm, look):
    """The means over an arm's seeds: the training loss dashed, the validation loss with marks."""
    mean = mean_curve(runs)
    dashed = {"color": look["color"], "lw": 1, "ls": "--"}
    axes.plot(mean[x], mean.training_loss, **dashed, label=f"{arm} training")
    mean = measured(mean)
    axes.plot(mean[x], mean.validation_loss, **marked(look, len(mean)), label=arm)


def last_point(runs, x, label, color):
    """Where an arm's mean ends, and what it has reached there."""
    last = measured(mean_curve(runs)).iloc[-1]
    return End(last[x], last.validation_loss, f"{label} {last.validation_loss:.3f}", color)


def add_perplexity(axes, label):
    """A second axis at the right, which reads the losses as perplexities."""
    low, high = np.exp(axes.get_ylim())
    ticks = [tick for tick in MaxNLocator(7).tick_values(low, high) if low <= tick <= high]
    right = axes.secondary_yaxis("right")
    right.set_yticks(np.log(ticks), [f"{tick:g}" for tick in ticks])
    right.set_ylabel(label)


def curves_key(curves, has_record, say):
    """What the marks of the learning curves mean: those that are drawn, and no others."""
    once = measured(curves).groupby(["arm", "seed"]).size().eq(1).all()
    several = curves.groupby("arm")["seed"].nunique().gt(1).any()
    key = [say("mark: validation") if once else say("line: validation")]
    if several:
        key[0] += say(", mean of seeds")
        ring = say("ring: each seed")
        key.append(ring if once else say("thin: each seed"))
    key.append(say("dashed: training"))
    if has_record:
        key.append(say("faint: recorded study"))
    return " · ".join(key)


def curves_in_words(ends, x, say):
    """The alt text of learning curves."""
    words = say("Validation loss by {}; at the end, in nats/character: {}.")
    return words.format(say(X_LABELS[x]), ", ".join(end.text for end in ends))


def ablation_bars(ablation, final, baselines, language=None, note="", title=""):
    """Each arm's loss with its 95 % interval and every seed's dot; its perplexity, size and time.

    ablation: one row an arm: arm, validation_loss, loss_low, loss_high, perplexity, parameters,
    elapsed_s. final: one row a run: arm, validation_loss. Bars start at zero; the loss axis does
    not, so it has dots.
    """
    styles = looks(ablation["arm"])
    names = [translated(arm, language) for arm in styles]
    colors = [look["color"] for look in styles.values()]
    with open_figure(3.1 + 0.5 * len(names), language, note) as (figure, say):
        (loss, perplexity), (parameters, seconds) = panels = figure.subplots(2, 2, sharey=True)
        draw_losses(loss, ablation, final, styles)
        list_down(loss, names, top=0.6)
        line = say("line: 95 % interval")
        small = say("small: each seed")
        key = f"\n{line} · {small}" if has_intervals(ablation) else ""
        loss.set_xlabel(say(LOSS) + key)
        low, high = padded(losses_shown(ablation, final), baselines)
        loss.set_xlim(low, high + 0.18 * (high - low))
        loss.xaxis.set_major_locator(MaxNLocator(5))
        name_baselines(loss, baselines, language)

        time = say("training time (s)")
        draw_bars(perplexity, ablation["perplexity"], colors, say(PERPLEXITY), "{:.2f}".format)
        draw_bars(parameters, ablation["parameters"] / 1e6, colors, say(PARAMETERS), three_digits)
        draw_bars(seconds, ablation["elapsed_s"], colors, time, whole_seconds)
        for axes in panels.flat:
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
        words = say("What each model reaches, and what it costs")
        head(figure, title or words)
        figure.set_label(ablation_in_words(names, ablation["validation_loss"], say))
    return figure


def whole_seconds(value):
    """A time as texts give it; three digits of a short one."""
    return f"{value:,.0f}" if value >= 100 else three_digits(value)


def has_intervals(ablation):
    """Whether any arm has more than one seed."""
    return ablation["loss_low"].notna().any()


def losses_shown(ablation, final):
    """All losses that a picture of arms has room for: means, the ends of intervals, seeds."""
    arms = ablation[["validation_loss", "loss_low", "loss_high"]]
    return np.concatenate([arms.values.ravel(), final["validation_loss"]])


def draw_losses(axes, ablation, final, styles):
    """A row an arm: its interval, its seeds a little below, its mean with the number."""
    for row, arm in enumerate(ablation.itertuples()):
        look = styles[arm.arm]
        interval = [arm.loss_low, arm.loss_high]
        axes.plot(interval, [row, row], color=look["color"], label=f"{arm.arm} interval")
        seeds = final.loc[final["arm"] == arm.arm, "validation_loss"]
        if len(seeds) > 1:  # of one, the mean is all that there is
            seed_dots(axes, seeds, np.full(len(seeds), row + 0.3), arm.arm, look["color"])
        axes.plot(arm.validation_loss, row, **look, ms=8, label=arm.arm)
        end = np.nanmax([arm.loss_high, arm.validation_loss])
        beside(axes, end, row, f"{arm.validation_loss:.3f}", bbox=BACK)


def name_baselines(axes, baselines, language):
    """Upright lines for the baselines, named above the axes; over these, those off the range."""
    drawn = draw_baselines(axes.axvline, axes.get_xlim(), baselines, language, columns=46)
    above = {"ha": "center", "va": "bottom", "transform": axes.get_xaxis_transform()}
    for value, text in drawn.shown:
        axes.text(value, 1.01, text, color=GREY, fontsize=SMALL, **above)
    explain(axes, *drawn.beyond, pad=18)


def draw_bars(axes, values, colors, label, form):
    """A bar a row, from zero, with its number as form writes it; nothing where none is known."""
    if values.isna().all():  # times of runs that shared a GPU
        axes.set_visible(False)
        return
    bars = axes.barh(range(len(values)), values, height=0.55, color=colors)
    axes.bar_label(bars, list(map(form, values)), padding=3, fontsize=SMALL)
    axes.set(xlabel=label, xlim=(0, 1.25 * values.max()))


def ablation_in_words(names, losses, say):
    """The alt text of the bars."""
    words = say(
        "Mean validation loss in nats/character: {}; beside it perplexity, parameters and "
        "training time."
    )
    reached = (f"{name} {loss:.3f}" for name, loss in zip(names, losses, strict=True))
    return words.format(", ".join(reached))


def parameters_vs_perplexity(ablation, final, language=None, note="", baselines=None, title=""):
    """What more parameters buy: each arm's mean perplexity, its 95 % interval, every seed's dot.

    ablation, final and baselines as in `ablation_bars`, final with parameters and perplexity too.
    """
    styles = looks(ablation["arm"])
    baselines = {label: np.exp(loss) for label, loss in (baselines or {}).items()}
    with open_figure(3.9, language, note) as (figure, say):
        axes = figure.subplots()
        axes.set(xlabel=say(PARAMETERS), ylabel=say(PERPLEXITY))
        ends = []
        for arm in ablation.itertuples():
            look = styles[arm.arm]
            draw_arm(axes, arm, final[final["arm"] == arm.arm], look)
            text = f"{translated(arm.arm, language)} {arm.perplexity:.2f}"
            ends.append(End(arm.parameters / 1e6, arm.perplexity, text, look["color"]))
        shown = np.exp(losses_shown(ablation, final))
        axes.set(xlim=padded(ablation["parameters"] / 1e6), ylim=padded(shown, baselines))

        drawn = draw_baselines(axes.axhline, axes.get_ylim(), baselines, language, "{:.2f}")
        label_columns(axes, ends + baseline_ends(drawn, last_of(ends)))
        key = say("line: 95 % interval of the mean · small: each seed")
        explain(axes, *([key] if has_intervals(ablation) else []), *drawn.beyond)
        head(figure, title or say("What more parameters buy"))
        words = say("Perplexity by parameters: {}.")
        figure.set_label(words.format(", ".join(end.text for end in ends)))
    return figure


def draw_arm(axes, arm, runs, look):
    """One arm's perplexity over its parameters: interval, seeds, mean."""
    millions = arm.parameters / 1e6
    interval = np.exp([arm.loss_low, arm.loss_high])
    line = {"color": look["color"], "lw": 1.5, "label": f"{arm.arm} interval"}
    axes.plot([millions, millions], interval, **line)
    if len(runs) > 1:
        seed_dots(axes, runs["parameters"] / 1e6, runs["perplexity"], arm.arm, look["color"])
    axes.plot(millions, arm.perplexity, **look, ms=8, label=arm.arm)


def label_columns(axes, ends):
    """A column of labels for each place on the x axis where points lie."""
    make_room(axes, ends)
    left, right = axes.get_xlim()
    columns = {}
    for end in ends:
        columns.setdefault(round(end.x / (0.1 * (right - left))), []).append(end)
    for _, column in sorted(columns.items()):
        label_ends(axes, column)
