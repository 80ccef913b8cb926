"""Pictures of a study: its learning curves, what each arm reaches, and what more parameters buy."""

import numpy as np
import pandas as pd
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter

from course_utils.figures.drawing import (
    GREY,
    SMALL,
    draw_baselines,
    ends_of,
    fold,
    head,
    label_ends,
    looks,
    make_room,
    name,
    open_figure,
    padded,
)

X_LABELS = {
    "step": ("training step", "训练步数（步）"),
    "characters": ("characters seen", "已读字符数（个）"),
    "elapsed_s": ("time (s)", "时间（秒）"),
}
LOSS = "validation loss (nats/character)", "验证损失（奈特/字符）"
PERPLEXITY = "perplexity (characters)", "困惑度（字符）"


def training_curves(curves, baselines, language="english", note="", recorded=None, x="step"):
    """Validation loss as each arm trains: a thin line a seed, a thick one for their mean, the training loss dashed.

    curves, recorded: rows with arm, seed, step, characters, elapsed_s, training_loss, validation_loss; recorded is
    drawn faintly behind. baselines: name -> nats/character. x: "step", "characters" or "elapsed_s". The loss axis
    fits what comes after the first tenth; where the record is far longer, the x axis is logarithmic.
    """
    if x not in X_LABELS:
        raise ValueError(f"unknown x {x!r}; allowed are {', '.join(X_LABELS)}")
    recorded = curves.iloc[:0] if recorded is None else recorded
    logarithmic = recorded[x].max() > 3 * curves[x].max()
    curves, recorded = (
        frame[frame[x] > 0] if logarithmic else frame for frame in (curves, recorded)
    )
    both = pd.concat([curves, recorded])
    later = pd.concat(frame[frame[x] >= 0.1 * frame[x].max()] for frame in (curves, recorded))
    with open_figure(4.2, language, note) as (figure, say):
        axes, ends, styles = figure.subplots(), [], looks(both["arm"])
        axes.set(xscale="log" if logarithmic else "linear", xlim=ends_of(both[x]))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(padded(later[["training_loss", "validation_loss"]], baselines))
        for arm, runs in recorded.groupby("arm", sort=False):
            mean, faint = mean_curve(runs), {"color": styles[arm]["color"], "alpha": 0.3, "lw": 4}
            mean = mean.dropna(subset="validation_loss")
            axes.plot(mean[x], mean.validation_loss, **faint, label=f"{arm} recorded")
        for arm, runs in curves.groupby("arm", sort=False):
            mean, look = mean_curve(runs), styles[arm]
            for seed, run in runs.groupby("seed"):
                thin = {
                    "color": look["color"],
                    "alpha": 0.5,
                    "lw": 0.8,
                    "label": f"{arm} seed {seed}",
                }
                run = run.dropna(subset="validation_loss")
                alone = {"marker": "o", "mfc": "none", "ms": 5, "alpha": 1} if len(run) == 1 else {}
                axes.plot(run[x], run.validation_loss, **thin | alone)
            axes.plot(
                mean[x],
                mean.training_loss,
                color=look["color"],
                lw=1,
                ls="--",
                label=f"{arm} training",
            )
            mean = mean.dropna(subset="validation_loss")
            axes.plot(
                mean[x], mean.validation_loss, **look, markevery=max(1, len(mean) // 7), label=arm
            )
            end, loss = mean[x].iloc[-1], mean.validation_loss.iloc[-1]
            ends.append((end, loss, f"{name(arm, language)} {loss:.3f}", look["color"]))
        inside, outside = draw_baselines(axes.axhline, axes.get_ylim(), baselines, language)
        labels = ends + [(max(end for end, *_ in ends), loss, text, GREY) for loss, text in inside]
        make_room(axes, labels)
        label_ends(axes, labels)
        low, high = np.exp(axes.get_ylim())
        ticks = [tick for tick in MaxNLocator(7).tick_values(low, high) if low <= tick <= high]
        right = axes.secondary_yaxis("right")
        right.set_yticks(np.log(ticks), [f"{tick:g}" for tick in ticks])
        right.set_ylabel(say(*PERPLEXITY))
        axes.set(xlabel=say(*X_LABELS[x]), ylabel=say(*LOSS))
        once = curves.dropna(subset="validation_loss").groupby(["arm", "seed"]).size().eq(1).all()
        key = [
            say("mark: validation", "符号：验证") if once else say("line: validation", "粗线：验证")
        ]
        if curves.groupby("arm")["seed"].nunique().gt(1).any():
            key[0] += say(", mean of seeds", "，各随机种子的均值")
            key += [
                say("ring: each seed", "圆圈：单个种子")
                if once
                else say("thin: each seed", "细线：单个种子")
            ]
        key += [say("dashed: training", "虚线：训练")]
        key += [say("faint: recorded study", "淡色：已存档的实验")] * bool(len(recorded))
        axes.set_title("\n".join([" · ".join(key), *outside]), fontsize=SMALL, color=GREY)
        head(figure, say("How the loss falls", "损失的下降过程"))
        alt = say(
            "Validation loss by {}; at the end, in nats/character: {}.",
            "验证损失随{}的变化；最终（奈特/字符）：{}。",
        )
        figure.set_label(alt.format(say(*X_LABELS[x]), ", ".join(text for _, _, text, _ in ends)))
    return figure


def mean_curve(runs):
    """The mean over the seeds of one arm, for the steps that every seed reached."""
    steps = runs.groupby("step", as_index=False)
    return steps.mean(numeric_only=True)[(steps.size()["size"] == runs["seed"].nunique()).values]


def ablation_bars(ablation, final, baselines, language="english", note=""):
    """Each arm's loss with its 95 % interval and every seed's dot, its perplexity, parameters and time.

    ablation: one row an arm: arm, validation_loss, loss_low, loss_high, perplexity, parameters, elapsed_s.
    final: one row a run: arm, validation_loss. Bars start at zero; the loss axis does not, so it has dots.
    """
    arms, rows, styles = ablation["arm"], np.arange(len(ablation)), looks(ablation["arm"])
    with open_figure(3.1 + 0.5 * len(arms), language, note) as (figure, say):
        (loss, perplexity), (parameters, seconds) = panels = figure.subplots(2, 2, sharey=True)
        for row, arm in enumerate(ablation.itertuples()):
            look, seeds = styles[arm.arm], final.loc[final["arm"] == arm.arm, "validation_loss"]
            small = {"color": look["color"], "mfc": "none", "ms": 4, "label": f"{arm.arm} seeds"}
            loss.plot(
                [arm.loss_low, arm.loss_high],
                [row, row],
                color=look["color"],
                label=f"{arm.arm} interval",
            )
            loss.plot(seeds, np.full(len(seeds), row + 0.3), "o", **small)
            loss.plot(arm.validation_loss, row, **look, ms=8, label=arm.arm)
            end = np.nanmax([arm.loss_high, arm.validation_loss])
            beside = {
                "xytext": (7, 0),
                "textcoords": "offset points",
                "va": "center",
                "fontsize": SMALL,
            }
            loss.annotate(f"{arm.validation_loss:.3f}", (end, row), **beside)
        loss.set_yticks(rows, [name(arm, language) for arm in arms])
        shown = [
            *ablation[["validation_loss", "loss_low", "loss_high"]].values.flat,
            *final["validation_loss"],
        ]
        key = say("line: 95 % interval · small: each seed", "横线：95 % 区间 · 小点：单个种子")
        low, high = padded(shown, baselines)
        loss.set(
            xlabel=f"{say(*LOSS)}\n{key}",
            xlim=(low, high + 0.18 * (high - low)),
            ylim=(len(arms) - 0.4, -0.6),
        )
        inside, outside = draw_baselines(loss.axvline, loss.get_xlim(), baselines, language)
        for at, text in inside:
            above = {"ha": "center", "va": "bottom", "transform": loss.get_xaxis_transform()}
            loss.text(at, 1.01, text, color=GREY, fontsize=SMALL, **above)
        loss.set_title("\n".join(fold("".join(outside), 46)), fontsize=SMALL, color=GREY, pad=18)
        for axes, values, words, form in (
            (perplexity, ablation["perplexity"], PERPLEXITY, "{:.2f}"),
            (
                parameters,
                ablation["parameters"] / 1e6,
                ("parameters (millions)", "参数量（百万）"),
                "{:.3g}",
            ),
            (seconds, ablation["elapsed_s"], ("training time (s)", "训练时间（秒）"), "{:,.3g}"),
        ):
            if values.isna().all():  # times of runs that shared a GPU
                axes.set_visible(False)
                continue
            bars = axes.barh(
                rows, values, height=0.55, color=[styles[arm]["color"] for arm in arms]
            )
            axes.bar_label(
                bars, [form.format(value) for value in values], padding=3, fontsize=SMALL
            )
            axes.set(xlabel=say(*words), xlim=(0, 1.25 * values.max()))
        for axes in panels.flat:
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
        head(figure, say("What each model reaches, and what it costs", "各模型的成绩与代价"))
        reached = [
            f"{name(arm.arm, language)} {arm.validation_loss:.3f}" for arm in ablation.itertuples()
        ]
        alt = say(
            "Mean validation loss in nats/character: {}; beside it perplexity, parameters and training time.",
            "平均验证损失（奈特/字符）：{}；旁边是困惑度、参数量和训练时间。",
        )
        figure.set_label(alt.format(", ".join(reached)))
    return figure


def parameters_vs_perplexity(ablation, final, language="english", note="", baselines=None):
    """What more parameters buy: each arm's mean perplexity with its 95 % interval, and every seed's dot.

    ablation, final and baselines as in `ablation_bars`, final with parameters and perplexity too.
    """
    styles, ends = looks(ablation["arm"]), []
    baselines = {key: np.exp(loss) for key, loss in (baselines or {}).items()}
    with open_figure(3.9, language, note) as (figure, say):
        axes = figure.subplots()
        for arm in ablation.itertuples():
            look, runs, at = styles[arm.arm], final[final["arm"] == arm.arm], arm.parameters / 1e6
            small = {"color": look["color"], "mfc": "none", "ms": 4, "label": f"{arm.arm} seeds"}
            interval = {"color": look["color"], "lw": 1.5, "label": f"{arm.arm} interval"}
            axes.plot([at, at], np.exp([arm.loss_low, arm.loss_high]), **interval)
            axes.plot(runs["parameters"] / 1e6, runs["perplexity"], "o", **small)
            axes.plot(at, arm.perplexity, **look, ms=8, label=arm.arm)
            ends.append(
                (
                    at,
                    arm.perplexity,
                    f"{name(arm.arm, language)} {arm.perplexity:.2f}",
                    look["color"],
                )
            )
        shown = [
            *np.exp(ablation[["loss_low", "loss_high"]]).values.flat,
            *ablation["perplexity"],
            *final["perplexity"],
        ]
        axes.set(xlim=padded(ablation["parameters"] / 1e6), ylim=padded(shown, baselines))
        inside, outside = draw_baselines(
            axes.axhline, axes.get_ylim(), baselines, language, "{:.2f}"
        )
        beside = [(max(at for at, *_ in ends), value, text, GREY) for value, text in inside]
        make_room(axes, ends + beside)
        near = 0.1 * (axes.get_xlim()[1] - axes.get_xlim()[0])
        for place in sorted(
            {round(at / near) for at, *_ in ends}
        ):  # a column of labels for each place on the x axis
            label_ends(axes, [end for end in ends + beside if round(end[0] / near) == place])
        axes.set(xlabel=say("parameters (millions)", "参数量（百万）"), ylabel=say(*PERPLEXITY))
        key = say(
            "line: 95 % interval of the mean · small: each seed",
            "竖线：均值的 95 % 区间 · 小点：单个种子",
        )
        axes.set_title("\n".join([key, *outside]), fontsize=SMALL, color=GREY)
        head(figure, say("What more parameters buy", "更多参数换来了什么"))
        reached = ", ".join(text for _, _, text, _ in ends)
        figure.set_label(
            say("Perplexity by parameters: {}.", "困惑度与参数量：{}。").format(reached)
        )
    return figure
