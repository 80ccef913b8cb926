"""The tables of a report: the numbers behind its sentences, under names that a reader knows."""

import math
from collections.abc import Callable
from typing import NamedTuple

from course_utils.generation import quality
from course_utils.research.report_words import (
    Said,
    duration,
    epochs,
    loss,
    megabytes,
    named,
    number,
    of_mebibytes,
    per_cent,
    perplexity,
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


SPEED = Said("inference speed (characters/s)", "推理速度（字符/秒）")
COLUMNS = {  # of the tables in results/tables
    "arm": Column(Said("model", "模型"), named),
    "seed": Column(Said("random seed", "随机种子"), setting),
    "seeds": Column(Said("seeds", "种子数"), whole),
    "n_layers": Column(Said("layers", "层数"), whole),
    "parameters": Column(Said("parameters", "参数量"), whole),
    "best_step": Column(Said("step of the best weights", "最佳权重所在步"), whole),
    "steps": Column(Said("training steps", "训练步数"), whole),
    "validation_loss": Column(
        Said("validation loss (nats/character)", "验证损失（奈特/字符）"), loss
    ),
    "loss_low": Column(Said("95 % interval from", "95% 置信区间下限"), number),
    "loss_high": Column(Said("95 % interval to", "95% 置信区间上限"), number),
    "perplexity": Column(Said("perplexity", "困惑度"), perplexity),
    "training_loss": Column(Said("training loss (nats/character)", "训练损失（奈特/字符）"), loss),
    "elapsed_s": Column(Said("training time (s)", "训练时间（秒）"), seconds),
    "characters_per_s": Column(Said("training speed (characters/s)", "训练速度（字符/秒）"), whole),
    "peak_memory_mb": Column(Said("peak memory (MiB)", "内存峰值（MiB）"), megabytes),
    "model_mb": Column(Said("memory of the model (MB)", "模型内存（MB）"), megabytes),
    "generation_characters_per_s": Column(SPEED, whole),
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
    "code": Said("fingerprint of the code", "代码指纹"),
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


def by_epoch(m):
    """Validation loss and perplexity at each point of the curves, a row a point."""
    heads = [Said("epoch", "轮"), Said("training step", "训练步")]
    arms = list(m.measured["arm"].unique())
    for arm in arms:
        name = Said(*(word.replace(" ", "\u00a0") for word in named(arm)))
        heads.append(Said(f"{name.english}: loss", f"{name.chinese}：损失"))
        heads.append(Said(f"{name.english}: perplexity", f"{name.chinese}：困惑度"))
    rows = []
    for (epoch, step), points in m.measured.groupby(["epoch", "step"]):
        reached = dict(zip(points["arm"], points["validation_loss"], strict=True))
        row = [epochs(epoch), whole(step)]
        for arm in arms:
            value = reached.get(arm, math.nan)
            row += ["–", "–"] if math.isnan(value) else [loss(value), perplexity(math.exp(value))]
        rows.append(row)
    title = Said(
        "Validation loss and perplexity at each evaluation", "每次评估时的验证损失与困惑度"
    )
    return Sheet(title, heads, rows)


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
        who = (
            Said("human reference (held-out text)", "原文（留出文本）")
            if arm == quality.HUMAN
            else named(arm)
        )
        measures = [number(row["five_gram_loss"]), per_cent(row["distinct_2"])]
        measures += [per_cent(row["repetition"]), per_cent(row["known_words"])]
        rows.append([who, *measures, whole(row["longest_copy"])])
    return Sheet(Said("Coherence, diversity, plausibility", "连贯性、多样性、合理性"), heads, rows)


def by_cost(m):
    """What each depth costs: size, time, speed, memory."""
    heads = [
        Said("model", "模型"),
        Said("parameters", "参数量"),
        Said("training time", "训练时间"),
        COLUMNS["characters_per_s"].head,
        SPEED,
        COLUMNS["model_mb"].head,
    ]
    rows = [
        [
            named(row.arm),
            whole(row.parameters),
            duration(row.elapsed_s),
            whole(row.characters_per_s),
            whole(row.generation_characters_per_s),
            megabytes(row.model_mb),
        ]
        for row in m.arms.itertuples()
    ]
    if m.on_gpu:  # elsewhere it is a process's, and says nothing of a depth
        heads.append(Said("memory on the GPU in training (MB)", "训练时的 GPU 内存（MB）"))
        for row, mib in zip(rows, m.arms["peak_memory_mb"], strict=True):
            row.append(megabytes(of_mebibytes(mib)))
    return Sheet(Said("Time, speed and memory", "时间、速度与内存"), heads, rows)
