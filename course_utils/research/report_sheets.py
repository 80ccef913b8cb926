"""The tables of a report: the numbers behind its sentences, under names that a reader knows."""

import itertools
import math
import re
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from course_utils.figures.words import with_minus
from course_utils.generation import quality
from course_utils.research import comparisons, groups, tables
from course_utils.research.report_words import (
    Said,
    duration,
    epochs,
    human,
    loss,
    megabytes,
    named,
    number,
    of_mebibytes,
    per_cent,
    perplexity,
    unbroken,
    whole,
)


class Sheet(NamedTuple):
    """A table in both languages: cells are Said, or str where both are the same."""

    title: Said
    heads: list
    rows: list


class Column(NamedTuple):
    """How a column of a table of results is called, and how its values are written."""

    head: Said
    form: Callable = str


def seconds(value):
    return "–" if math.isnan(value) else f"{value:,.1f}"


def setting(value):
    """A setting of sampling: a dash where it wasn't used."""
    return "–" if math.isnan(value) else f"{value:g}"


def mebibytes(value):
    return megabytes(of_mebibytes(value))


def difference(value):
    return "–" if math.isnan(value) else with_minus(f"{value:+z.3f}")


def two_digits(value):
    return "–" if math.isnan(value) else f"{value:.2g}"


def milliseconds(value):
    return megabytes(1e3 * value)


def interval(low, high, form=loss):
    """Two ends in words; a dash where one seed has none."""
    if math.isnan(low):
        return Said("–", "–")
    return Said(f"{form(low)} to {form(high)}", f"{form(low)} 至 {form(high)}")


MOST_ROWS = 10  # of the table by epoch on the page; all are under All numbers
INTERVAL = Said("95 % interval", "95% 置信区间")
LOSS = Said("validation loss (nats/character)", "验证损失（奈特/字符）")
HALF = Said("loss on the second half", "后一半上的损失")
PARAMETERS = Said("parameters", "参数量")
SEEDS = Said("seeds", "种子数")
SPEED = Said("inference speed (characters/s)", "推理速度（字符/秒）")
TRAINING_SPEED = Said(
    "training speed, evaluations left out (characters/s)", "训练速度（不含评估，字符/秒）"
)
COLUMNS = {  # of the tables in results/tables
    "arm": Column(Said("model", "模型"), named),
    "other": Column(Said("compared with", "对比对象"), named),
    "model": Column(Said("n-gram model", "n 元语法模型"), named),
    "pairs": Column(Said("paired seeds", "种子对数"), whole),
    "difference": Column(Said("difference (nats/character)", "差值（奈特/字符）"), difference),
    "low": Column(Said("95 % interval from", "95% 置信区间下限"), difference),
    "high": Column(Said("95 % interval to", "95% 置信区间上限"), difference),
    "p": Column(Said("p (paired t test)", "p 值（配对 t 检验）"), two_digits),
    "seed": Column(Said("random seed", "随机种子"), setting),
    "seeds": Column(Said("seeds", "种子数"), whole),
    "n_layers": Column(Said("layers", "层数"), whole),
    "parameters": Column(Said("parameters", "参数量"), whole),
    "best_step": Column(Said("step of the kept weights", "所保留权重的训练步"), whole),
    "steps": Column(Said("training steps", "训练步数"), whole),
    "validation_loss": Column(LOSS, loss),
    "reporting_loss": Column(HALF, loss),
    "loss_low": Column(Said("95 % interval from", "95% 置信区间下限"), loss),
    "loss_high": Column(Said("95 % interval to", "95% 置信区间上限"), loss),
    "perplexity": Column(Said("perplexity", "困惑度"), perplexity),
    "training_loss": Column(Said("training loss (nats/character)", "训练损失（奈特/字符）"), loss),
    "elapsed_s": Column(Said("training time (s)", "训练时间（秒）"), seconds),
    "characters_per_s": Column(TRAINING_SPEED, whole),
    "step_s": Column(Said("fastest step (ms)", "最快的训练步（毫秒）"), milliseconds),
    "step_high_s": Column(Said("slowest step (ms)", "最慢的训练步（毫秒）"), milliseconds),
    "peak_memory_mb": Column(Said("peak memory (MB)", "内存峰值（MB）"), mebibytes),
    "step_memory_mb": Column(
        Said("peak on the GPU, steps alone (MB)", "仅计训练步的 GPU 峰值（MB）"), mebibytes
    ),
    "model_mb": Column(Said("memory of the model (MB)", "模型内存（MB）"), megabytes),
    "training_mb": Column(Said("memory of a step (MB)", "训练步内存（MB）"), megabytes),
    "generation_characters_per_s": Column(SPEED, whole),
    "generation_low": Column(Said("lowest inference speed", "最低推理速度"), whole),
    "generation_high": Column(Said("highest inference speed", "最高推理速度"), whole),
    "generation_threads": Column(Said("threads of inference", "推理线程数"), whole),
    "generation_device": Column(Said("device of inference", "推理设备")),
    "device": Column(Said("device", "设备")),
    "corpus": Column(Said("text", "文本")),
    "record": Column(Said("record", "记录文件")),
    "temperature": Column(Said("temperature", "温度"), setting),
    "top_k": Column(Said("top-k", "top-k"), setting),
    "top_p": Column(Said("top-p", "top-p"), setting),
    "prompt": Column(Said("prompt", "提示")),
    "text": Column(Said("written text", "生成的文本")),
    "distinct_2": Column(Said("distinct pairs", "不同词对"), per_cent),
    "repetition": Column(Said("repetition", "重复"), per_cent),
    "known_words": Column(Said("known words", "已知词"), per_cent),
    "longest_copy": Column(Said("longest copy (characters)", "最长照抄（字符）"), whole),
    "five_gram_loss": Column(
        Said("5-gram loss (nats/character)", "五元语法损失（奈特/字符）"), number
    ),
}


FACTS = {  # of a record's environment
    "device": Said("device", "设备"),
    "threads": Said("threads", "线程数"),
    "cores": Said("cores", "核心数"),
    "system": Said("system", "系统"),
    "python": Said("Python", "Python"),
    "torch": Said("PyTorch", "PyTorch"),
    "code": Said("fingerprint of the lessons' and the training's code", "课程与训练代码的指纹"),
    "date": Said("date", "日期"),
}


def raw(title, table):
    """A table of results as it lies in the folder, its columns called by their names."""
    heads = [COLUMNS[name].head for name in table.columns]
    forms = [COLUMNS[name].form for name in table.columns]
    rows = [
        [cell(form, value) for form, value in zip(forms, row, strict=True)]
        for row in table.itertuples(index=False, name=None)
    ]
    return Sheet(title, heads, rows)


def cell(form, value):
    """A value as it is written; a dash for none where words are expected."""
    if form is str and value != value:
        return "–"
    return form(value)


def by_epoch(m, rows=None):
    """Losses and perplexity at the points of the curves, a row a point.

    rows: no more than so many, at even distances, with each model's last.
    """
    heads = [Said("epoch", "轮"), Said("step", "步")]
    measured = m.reported if m.validated_once else m.measured
    arms = list(measured["arm"].unique())
    for arm in arms:
        name = unbroken(arm)
        heads.append(Said(f"{name.english}: training", f"{name.chinese}：训练"))
        heads.append(Said(f"{name.english}: validation", f"{name.chinese}：验证"))
        heads.append(Said(f"{name.english}: perplexity", f"{name.chinese}：困惑度"))
    points = list(measured.groupby(["epoch", "step"]))
    shown = picked(points, rows or len(points), set(measured.groupby("arm")["step"].max()))
    table = []
    for (epoch, step), there in shown:
        row = [epochs(epoch), whole(step)]
        for arm in arms:
            row += at_a_point(there[there["arm"] == arm])
        table.append(row)
    title = Said(
        f"Training and validation loss in nats/character, and perplexity of the latter, at "
        f"{len(shown)} of {len(points)} evaluations",
        f"训练与验证损失（奈特/字符），以及后者的困惑度，"
        f"取 {len(points)} 次评估中的 {len(shown)} 次",
    )
    if len(shown) == len(points):
        title = Said(
            "Training and validation loss in nats/character, and perplexity of the latter, at each "
            "evaluation",
            "每次评估时的训练与验证损失（奈特/字符），以及后者的困惑度",
        )
    if m.validated_once:
        title = Said(
            f"Training loss in nats/character at {len(shown)} of {len(points)} reports, validation "
            "loss and perplexity at the end (–: not evaluated)",
            f"训练损失（奈特/字符），取 {len(points)} 次记录中的 {len(shown)} 次；"
            "结束时的验证损失与困惑度（–：当时没有评估）",
        )
    elif any("–" in row for row in table):
        title = Said(
            f"{title.english} (–: a seed of that depth has stopped by then, or wasn't evaluated)",
            f"{title.chinese}（–：该深度已有种子停止，或当时没有评估）",
        )
    return Sheet(title, heads, table)


def picked(points, most, ends):
    """At most so many of the points, the first and those at these steps among them, if possible."""
    if len(points) <= most:
        return points
    gap = (len(points) - 1) / (most - 1)
    chosen = {round(i * gap) for i in range(most)}
    return [point for i, point in enumerate(points) if i in chosen or point[0][1] in ends]


def at_a_point(measured):
    """Training loss, validation loss and perplexity of one model there; dashes for none."""
    if measured.empty:
        return ["–"] * 3
    point = measured.iloc[0]
    reached = point.validation_loss
    return [
        loss(point.training_loss),
        loss(reached),
        "–" if math.isnan(reached) else perplexity(math.exp(reached)),
    ]


def by_arm(m):
    """What each depth reaches."""
    heads = [Said("model", "模型"), PARAMETERS, SEEDS, Said("validation loss", "验证损失")]
    heads.append(INTERVAL)
    if m.chooses:
        half = "second half of the held-out text (chose nothing)", "留出文本后一半（未参与选择）"
        heads.append(Said(*half))
    heads += [COLUMNS["perplexity"].head, Said("training loss", "训练损失")]
    rows = []
    for row in m.arms.itertuples():
        cells = [unbroken(row.arm), whole(row.parameters), whole(row.seeds)]
        cells += [loss(row.validation_loss), interval(row.loss_low, row.loss_high)]
        if m.chooses:
            cells.append(loss(row.reporting_loss))
        rows.append([*cells, perplexity(row.perplexity), loss(row.training_loss)])
    title = Said(
        "What each depth reaches, losses in nats/character", "各深度的结果，损失单位为奈特/字符"
    )
    return Sheet(title, heads, rows)


def by_study(group):
    """What each arm of another study reaches, and how far that is from the one it is held against.

    That is the study's reference, or the arm before it.
    """
    heads = [Said("arm", "设置"), SEEDS, LOSS, COLUMNS["perplexity"].head]
    heads += [Said("difference", "差值"), INTERVAL]
    arms = tables.arm_table(tables.final_table(group.records))
    apart = {one.arm: one for one in differences(group)}
    rows = []
    for row in arms.itertuples():
        cells = [called(row.arm), whole(row.seeds), loss(row.validation_loss)]
        cells += [perplexity(row.perplexity), "–", "–"]
        if one := apart.get(row.arm):
            cells[-2:] = [difference(one.difference), interval(one.low, one.high, difference)]
        rows.append(cells)
    about = Said("each against the one before it", "各与前一个相比")
    if group.reference:
        name = called(group.reference)
        about = Said(f"each against “{name.english}”", f"各与“{name.chinese}”相比")
    chinese = group.title.replace(", recipe ", "，训练配方 ").replace(", ", "，")
    title = Said(f"{group.title}: {about.english}", f"{chinese}：{about.chinese}")
    return Sheet(title, heads, rows)


def called(arm):
    """An arm of another study: the one that all are held against is the settings above its table"""
    if arm == comparisons.REFERENCE:
        return Said("the settings above", "原设置（见上）")
    if arm == comparisons.CONTROL:
        return Said("the settings above, other seeds", "原设置，换种子")
    return named(arm)


def study_table(found):
    """The same numbers of all these groups, a row an arm: tables/other_ablations.csv."""
    parts = []
    for group in found:
        arms = tables.arm_table(tables.final_table(group.records))
        apart = tables.comparison_table(list(differences(group)))
        arms.insert(0, "study", group.title)
        parts.append(arms.merge(apart, on="arm", how="left"))
    return pd.concat(parts, ignore_index=True)


def differences(group):
    """The comparisons that a group allows: of arms that differ in nothing but what makes them."""
    if group.silent:
        return
    arms = group.arms
    pairs = itertools.pairwise(arms.values())
    if group.reference:
        first = arms.get(group.reference, [])
        pairs = [(first, runs) for arm, runs in arms.items() if first and arm != group.reference]
    for other, runs in pairs:
        if not groups.extra(group.study, other[0], runs[0]):
            yield comparisons.adjacent([*other, *runs])[0]


def by_quality(m):
    """The three judgements of the texts, a row a model and one for people."""
    heads = [
        Said("writer", "作者"),
        Said("coherence: 5-gram loss", "连贯性：五元语法损失"),
        Said("diversity: distinct pairs", "多样性：不同词对"),
        Said("diversity: repetition", "多样性：重复"),
        Said("plausibility: known words", "合理性：已知词"),
        Said("longest copy (characters)", "最长照抄（字符）"),
    ]
    rows = []
    for arm, row in m.judged.iterrows():
        who = Said(arm, human(m)) if arm == quality.HUMAN else unbroken(arm)
        measures = [number(row["five_gram_loss"]), per_cent(row["distinct_2"])]
        measures += [per_cent(row["repetition"]), per_cent(row["known_words"])]
        rows.append([who, *measures, whole(row["longest_copy"])])
    return Sheet(Said("Coherence, diversity, plausibility", "连贯性、多样性、合理性"), heads, rows)


def on(devices, head):
    """A column's head with where its numbers were taken; without, where there are none."""
    if not devices:
        return head
    where = re.sub(r"(\S{12})(?=\S)", "\\1\u200b", " / ".join(devices))  # a long one may break
    return Said(f"{head.english} on {where}", f"{head.chinese}，{where}")


def by_cost(m):
    """What each depth costs: size, time, speed, memory; a time's head says where it was taken."""
    here = [m.first["generation_device"]]
    trained = list(m.final.dropna(subset="elapsed_s")["device"].unique())
    heads = [
        Said("model", "模型"),
        on(trained, Said("training time", "训练时间")),
        on(here, COLUMNS["step_s"].head),
        on(trained, TRAINING_SPEED),
        on(here, SPEED),
        COLUMNS["model_mb"].head,
        COLUMNS["training_mb"].head,
    ]
    rows = [
        [
            unbroken(row.arm),
            duration(row.elapsed_s),
            milliseconds(row.step_s),
            whole(row.characters_per_s),
            whole(row.generation_characters_per_s),
            megabytes(row.model_mb),
            megabytes(row.training_mb),
        ]
        for row in m.arms.itertuples()
    ]
    return Sheet(Said("Time, speed and memory", "时间、速度与内存"), heads, rows)
