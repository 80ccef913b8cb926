"""What a report says in sentences, each computed from the study's numbers, in both languages."""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from course_utils.corpus import Corpus
from course_utils.figures.words import with_minus
from course_utils.generation import quality
from course_utils.lessons.data import split
from course_utils.lessons.model import GPTConfig
from course_utils.lessons.train import TrainConfig
from course_utils.messages import CODES
from course_utils.research.report_words import (
    Said,
    duration,
    each,
    epochs,
    joined,
    listed,
    loss,
    megabytes,
    millions,
    named,
    number,
    of_mebibytes,
    perplexity,
    plural,
    share,
    tight,
    whole,
)


@dataclass(frozen=True)
class Material:
    """All that a report is made from; its tables are those of research.tables and quality."""

    corpus: Corpus
    records: list  # RunRecords of the study, arm by arm
    curves: pd.DataFrame  # with a column epoch too
    final: pd.DataFrame
    arms: pd.DataFrame  # with generation_characters_per_s, generation_threads and model_mb too
    texts: pd.DataFrame
    baselines: dict  # name -> nats/character
    comparisons: list  # each arm with the one before it; none where runs are too small to tell

    @cached_property
    def model(self):
        return GPTConfig(**self.records[0].model)

    @cached_property
    def train(self):
        return TrainConfig(**self.records[0].train)

    @cached_property
    def epochs(self):
        """How often the longest run has read the training text."""
        return self.curves["epoch"].max()

    @cached_property
    def measured(self):
        """The mean over the seeds of each arm, for the steps after which all were evaluated."""
        rows = self.curves.dropna(subset="validation_loss")
        steps = rows.groupby(["arm", "step"], sort=False, as_index=False)
        means = steps[["epoch", "training_loss", "validation_loss"]].mean()
        seeds = rows.groupby("arm")["seed"].nunique()
        return means[steps.size()["size"] == means["arm"].map(seeds)]

    @cached_property
    def judged(self):
        """The measures of one text a model, by the last of the settings, and of human text."""
        texts = quality.like(self.texts, quality.SETTINGS[-1])
        measures = ["distinct_2", "repetition", "known_words", "longest_copy", "five_gram_loss"]
        return texts.groupby("arm", sort=False)[measures].mean()

    @property
    def is_settled(self):
        """Whether each step in depth was found to help or to harm."""
        verdicts = [one.high < 0 or one.low > 0 for one in self.comparisons]
        return bool(verdicts) and all(verdicts)

    @property
    def on_gpu(self):
        return "cuda" in self.records[0].regime

    @property
    def best(self):
        return self.arms.loc[self.arms["validation_loss"].idxmin()]

    @property
    def first(self):
        return self.arms.iloc[0]

    @property
    def last(self):
        return self.arms.iloc[-1]


# --- the question and its answer -----------------------------------------------------------------
def question(m):
    arms = listed([named(arm) for arm in m.arms["arm"]])
    return Said(
        "How much better does a character-level Transformer predict its text as it gets deeper, "
        f"and what does the depth cost? Here {arms.english} are compared; all else is the same.",
        "字符级 Transformer 加深之后，预测文本的能力会提高多少，又要付出什么代价？"
        f"这里比较 {arms.chinese}，其余设置完全相同。",
    )


def answer(m):
    best = named(m.best["arm"])
    reached = f"{loss(m.best['validation_loss'])}", f"{perplexity(m.best['perplexity'])}"
    n_gram, floor = min(m.baselines.items(), key=lambda item: item[1])
    better = m.best["validation_loss"] < floor
    gram = named(n_gram)
    place = Said("better than", "优于") if better else Said("worse than", "不及")
    return joined(
        Said(
            f"The lowest validation loss is that of {best.english}: {reached[0]} nats/character, "
            f"a perplexity of {reached[1]}. That is {place.english} the best n-gram model "
            f"({gram.english}: {loss(floor)}).",
            f"验证损失最低的是 {best.chinese}：{reached[0]} 奈特/字符，困惑度 {reached[1]}，"
            f"{place.chinese}最好的 n 元语法模型（{gram.chinese}，{loss(floor)}）。",
        ),
        price(m),
        *verdicts(m),
    )


def price(m):
    """What the deepest costs, as a multiple of the shallowest."""
    first, last = named(m.first["arm"]), named(m.last["arm"])
    more = m.last["parameters"] / m.first["parameters"]
    longer = m.last["elapsed_s"] / m.first["elapsed_s"]
    time = Said("", "")
    if not math.isnan(longer):
        time = Said(
            f" and took {longer:.1f} times as long to train", f"，训练时间是其 {longer:.1f} 倍"
        )
    return Said(
        f"The price: {last.english} have {more:.1f} times the parameters of {first.english}"
        f"{time.english}.",
        f"代价：{last.chinese} 的参数量是 {first.chinese} 的 {more:.1f} 倍{time.chinese}。",
    )


def verdicts(m):
    """Each arm against the one before it; or why there is nothing to say."""
    if not m.comparisons:
        steps = whole(m.final["steps"].max())
        return [
            Said(
                f"No verdict on depth: models and runs of {steps} steps are too small to tell "
                "the depths apart.",
                f"关于深度没有结论：模型太小，{steps} 步的训练也太短，无法区分各深度。",
            )
        ]
    return [verdict(one) for one in m.comparisons]


def verdict(one):
    """A comparison's own words; where its interval contains 0, that the question is open."""
    if not one.low <= 0 <= one.high:
        return Said(*(with_minus(one.verdict_in(language)) for language in CODES))
    a, b = named(one.arm), named(one.other)
    difference, low, high = f"{one.difference:+z.3f}", f"{one.low:+z.3f}", f"{one.high:+z.3f}"
    english = (
        f"Not settled whether {a.english} predict better than {b.english}: {difference} "
        f"nats/character (95 % interval {low} to {high}, {one.pairs} paired seeds)."
    )
    chinese = (
        f"{a.chinese} 的预测是否好于 {b.chinese} 尚无定论：{difference} 奈特/字符"
        f"（95% 置信区间 {low} 至 {high}，{one.pairs} 对种子）。"
    )
    return Said(with_minus(english), with_minus(chinese))


# --- the method ----------------------------------------------------------------------------------
POSITIONS = {
    "learned": Said("learned positions", "可学习的位置编码"),
    "sinusoidal": Said("sinusoidal positions", "正弦位置编码"),
    "rope": Said("rotary positions (RoPE)", "旋转位置编码（RoPE）"),
    "none": Said("no positions", "无位置编码"),
}
NORMS = {"layernorm": "LayerNorm", "rmsnorm": "RMSNorm"}
ACTIVATIONS = {"gelu": "GELU", "relu": "ReLU", "relu2": "ReLU²", "swiglu": "SwiGLU"}


def method(m):
    """Its paragraphs: what is trained, how, and how it is measured."""
    return [
        joined(the_text(m), the_model(m)),
        joined(the_training(m), the_kept_weights(m)),
        joined(the_measure(m), BASELINES),
    ]


def the_text(m):
    text = m.corpus.text
    train, held_out = map(len, split(text))
    return Said(
        f"The text is {m.corpus.name}: {len(text):,} characters, {len(set(text)):,} of them "
        f"different. The models learn from the first {train:,}; the last {held_out:,} are held "
        "out.",
        f"文本是 {m.corpus.name}：共 {len(text):,} 个字符，其中 {len(set(text)):,} 种不同。"
        f"前 {train:,} 个用于训练，后 {held_out:,} 个留作验证。",
    )


def the_model(m):
    c = m.model
    arms = listed([named(arm) for arm in m.arms["arm"]])
    norms = normalisation(c)
    positions = POSITIONS[c.position]
    tied = (
        Said("one matrix", "同一个矩阵") if c.tie_embeddings else Said("two matrices", "两个矩阵")
    )
    return Said(
        "The models are decoder-only Transformers that read up to "
        f"{c.context_length:,} characters and predict the next one; they have {arms.english}, and "
        f"all have width {c.d_model}, {c.n_heads} heads, feed-forward layers {c.d_ff:,} wide with "
        f"{ACTIVATIONS[c.activation]}, {norms.english}, {positions.english}, "
        f"{tied.english} to read and to write characters, and dropout {c.dropout:g}.",
        "模型是仅含解码器的 Transformer，最多读 "
        f"{c.context_length:,} 个字符并预测下一个；深度分别为 {arms.chinese}，其余相同："
        f"宽度 {c.d_model}，{c.n_heads} 个头，前馈层宽 {c.d_ff:,}（{ACTIVATIONS[c.activation]}），"
        f"{norms.chinese}，{positions.chinese}，输入与输出嵌入用{tied.chinese}，"
        f"dropout 为 {c.dropout:g}。",
    )


def normalisation(c):
    """Which, and where: of the residual stream, and of queries and keys."""
    norms = Said("no normalisation", "无归一化")
    if c.norm in NORMS:
        before = c.norm_placement == "pre"
        place = Said("before", "之前（pre-norm）") if before else Said("after", "之后（post-norm）")
        norms = Said(
            f"{NORMS[c.norm]} {place.english} each sublayer ({c.norm_placement}-norm)",
            f"{NORMS[c.norm]} 在各子层{place.chinese}",
        )
    if c.qk_norm:
        norms = Said(
            f"{norms.english}, queries and keys normalised (QK-norm)",
            f"{norms.chinese}，查询与键归一化（QK-norm）",
        )
    return norms


def the_training(m):
    c = m.train
    by = Said("AdamW", "AdamW")
    rates = Said(f"a peak learning rate of {c.learning_rate:g}", f"峰值学习率 {c.learning_rate:g}")
    if c.optimizer == "muon":
        by = Said(
            "Muon (the blocks' matrices) and AdamW (the rest)", "Muon（各层矩阵）与 AdamW（其余）"
        )
        rates = Said(
            f"peak learning rates of {c.muon_learning_rate:g} and {c.learning_rate:g}",
            f"峰值学习率分别为 {c.muon_learning_rate:g} 与 {c.learning_rate:g}",
        )
    falls = Said("a constant rate after it", "其后学习率不变")
    if c.decay:
        falls = Said(
            f"a rate that falls linearly to 0 over the last {100 * c.decay:g} % of the steps",
            f"最后 {100 * c.decay:g}% 的步数中学习率线性降到 0",
        )
    seeds = sorted(m.final["seed"].unique())
    numbers = ", ".join(map(str, seeds))
    stops = Said("", "")
    if m.final["steps"].min() < c.steps:
        stops = Said(
            f", or until {c.patience} evaluations in a row bring nothing better",
            f"，连续 {c.patience} 次评估没有改进则提前停止",
        )
    return Said(
        f"Each run makes {c.steps:,} steps of {c.batch_size} windows{stops.english}; the longest "
        f"reads the training text {epochs(m.epochs)} times (epochs). The optimiser is "
        f"{by.english}, with {rates.english}, {c.warmup_steps} steps of warm-up, {falls.english}, "
        f"weight decay {c.weight_decay:g}, and gradients clipped to a norm of {c.clip_norm:g}. "
        f"Every depth is trained with {plural(len(seeds), 'seed')} ({numbers}); runs of one seed "
        "read the same batches.",
        f"每次训练 {c.steps:,} 步，每步 {c.batch_size} 个窗口{stops.chinese}；"
        f"最长的一次把训练文本读了 {epochs(m.epochs)} 遍（轮）。"
        f"优化器为 {by.chinese}，{rates.chinese}，"
        f"预热 {c.warmup_steps} 步，{falls.chinese}，"
        f"权重衰减 {c.weight_decay:g}，梯度范数裁剪到 {c.clip_norm:g}。"
        f"每种深度用 {len(seeds)} 个随机种子（{numbers}），同一种子的各次训练读相同的批次。",
    )


def the_measure(m):
    predictions = len(split(m.corpus.text)[1]) - 1
    return Said(
        f"The validation loss is the mean over all {predictions:,} predictions of the held-out "
        f"text, read in windows of {m.model.context_length:,} characters that don't overlap (the "
        "first characters of a window have little before them), without dropout, in "
        "nats/character. Perplexity is its exponential: among how many equally likely characters "
        "the model hesitates.",
        f"验证损失是留出文本中全部 {predictions:,} 次预测的平均，"
        f"按互不重叠的 {m.model.context_length:,} 字符窗口读取（窗口开头的字符几乎没有上文），"
        "关闭 dropout，单位为奈特/字符。"
        "困惑度是它的指数：相当于模型在多少个等可能的字符之间犹豫。",
    )


def the_kept_weights(m):
    """Which weights of a run are measured. Rows of a history that chose have a choosing_loss."""
    choices = max(sum("choosing_loss" in row for row in r.history) for r in m.records)
    if choices == 1:
        return Said(
            "The weights of a run's last step are measured.",
            "测量所用的是每次训练最后一步的权重。",
        )
    return Said(
        "The loss on the first half of the held-out text, measured up to "
        f"{choices} times a run, chooses which weights are kept.",
        f"每次训练至多测量 {choices} 次留出文本前一半的损失，由它决定保留哪一步的权重。",
    )


BASELINES = Said(
    "The yardsticks are models that only count. An n-gram model counts in the training text what "
    "follows the n − 1 characters before (unigram: none, bigram: one, 5-gram: four), smoothed by "
    "Witten and Bell's rule; Kneser–Ney looks at six at most, smoothed by Kneser and Ney's rule; "
    "uniform takes all characters to be equally likely.",
    "作对照的是只靠计数的模型。n 元语法模型从训练文本中统计前面 n − 1 个字符之后出现什么"
    "（一元不看前文，二元看一个，五元看四个），按 Witten–Bell 法平滑；"
    "Kneser–Ney 至多看六个，按 Kneser–Ney 法平滑；均匀分布认为各字符等可能。",
)


# --- figures -------------------------------------------------------------------------------------
ONE_SEED = Said(
    "One seed a depth, so nothing says how far seeds lie apart.",
    "每种深度只有一个种子，无从得知种子之间的差异。",
)


def titles(m):
    """What stands above each figure: what was found, where it was. -> name -> Said"""
    if not m.is_settled:
        return {
            "curve": Said(
                f"Loss and perplexity over {epochs(m.epochs)} epochs",
                f"{epochs(m.epochs)} 轮训练中的损失与困惑度",
            ),
            "bars": Said("What each depth reaches and costs", "各深度的结果与代价"),
            "parameters": Said("Parameters and perplexity", "参数量与困惑度"),
        }
    best = named(m.best["arm"])
    reached = loss(m.best["validation_loss"])
    more = m.last["parameters"] / m.first["parameters"]
    change = m.last["perplexity"] / m.first["perplexity"] - 1
    way = Said("lower", "降低") if change < 0 else Said("higher", "升高")
    return {
        "curve": Said(
            f"After {epochs(m.epochs)} epochs {best.english} have the lowest validation loss",
            f"{epochs(m.epochs)} 轮之后，{best.chinese} 的验证损失最低",
        ),
        "bars": Said(
            f"The lowest loss is that of {best.english}: {reached} nats/character",
            f"损失最低的是 {best.chinese}：{reached} 奈特/字符",
        ),
        "parameters": Said(
            f"{more:.1f} times the parameters, {share(abs(change))} {way.english} perplexity",
            tight(f"参数量增至 {more:.1f} 倍，困惑度{way.chinese} {share(abs(change))}"),
        ),
    }


def curve(m):
    """Under the learning curves: from where to where, and whether the end was reached."""
    parts = []
    falls = []
    for arm, points in m.measured.groupby("arm", sort=False):
        begin, end = points.iloc[0], points.iloc[-1]
        name = named(arm)
        reached = f"{loss(end.validation_loss)} ({perplexity(math.exp(end.validation_loss))})"
        if len(points) == 1:
            parts.append(Said(f"{name.english} {reached}", f"{name.chinese} {reached}"))
            continue
        fall = points.iloc[-2].validation_loss - end.validation_loss
        falls.append((arm, fall, end.epoch - points.iloc[-2].epoch))
        start = f"{loss(begin.validation_loss)} ({perplexity(math.exp(begin.validation_loss))})"
        when = epochs(begin.epoch), epochs(end.epoch)
        parts.append(
            Said(
                f"{name.english} from {start} after {when[0]} epochs to {reached} after {when[1]}",
                f"{name.chinese} 从 {when[0]} 轮后的 {start} 降到 {when[1]} 轮后的 {reached}",
            )
        )
    said = listed(parts)
    return joined(
        Said(
            f"Validation loss, and in brackets perplexity: {said.english}.",
            f"验证损失（括号内为困惑度）：{said.chinese}。",
        ),
        *last_stretch(falls),
        training_gap(m),
    )


def last_stretch(falls):
    """Whether more training would have helped. falls: (arm, how far it fell, over what epochs)"""
    if not falls:
        return []
    arm, fall, stretch = max(falls, key=lambda one: one[1])
    stretch = epochs(stretch)
    name = named(arm)
    if fall <= 0:
        return [
            Said(
                f"None has fallen over its last {stretch} epochs: more of the same training "
                "would not have helped.",
                f"最后 {stretch} 轮中没有一条继续下降：照此再训练下去也不会更好。",
            )
        ]
    return [
        Said(
            f"Over the last {stretch} epochs {name.english} still fell by {loss(fall)}, more "
            "than any other.",
            f"最后 {stretch} 轮中 {name.chinese} 仍下降了 {loss(fall)}，多于其他深度。",
        )
    ]


def training_gap(m):
    gaps = m.arms["validation_loss"] - m.arms["training_loss"]
    row = m.arms.loc[gaps.abs().idxmax()]
    gap = row["validation_loss"] - row["training_loss"]
    name = named(row["arm"])
    side = Said("above", "高") if gap > 0 else Said("below", "低")
    dropout = Said("", "")
    if m.model.dropout:
        dropout = Said(", in which dropout is on", "（其间 dropout 开启）")
    return Said(
        f"At the weights that are kept the validation loss lies at most {loss(abs(gap))} "
        f"{side.english} the training loss ({name.english}), which is the mean over the batches "
        f"just before{dropout.english}.",
        f"在保留的权重处，验证损失与训练损失相差最多的是 {name.chinese}，"
        f"前者{side.chinese} {loss(abs(gap))}；"
        f"训练损失是此前最近若干批次的均值{dropout.chinese}。",
    )


def bars(m):
    """Under the ablation bars: what each step in depth buys."""
    reached = listed(each(m.arms, "{arm} {validation_loss:.3f}", "{arm} {validation_loss:.3f}"))
    steps = steps_in_perplexity(m)
    seeds = int(m.arms["seeds"].min())
    sure = ONE_SEED
    if seeds > 1:
        sure = Said(
            f"Means of {seeds} seeds; the lines are 95 % intervals.",
            f"为 {seeds} 个种子的均值，横线为 95% 置信区间。",
        )
    return joined(
        Said(f"Validation loss: {reached.english}.", f"验证损失：{reached.chinese}。"),
        *steps,
        sure,
    )


def steps_in_perplexity(m):
    sentences = []
    rows = list(m.arms.itertuples())
    for before, after in itertools.pairwise(rows):
        change = after.perplexity / before.perplexity - 1
        a, b = named(before.arm), named(after.arm)
        way = Said("lower", "降低") if change < 0 else Said("higher", "升高")
        sentences.append(
            Said(
                f"From {a.english} to {b.english} perplexity is {share(abs(change))} "
                f"{way.english}.",
                f"从 {a.chinese} 到 {b.chinese}，困惑度{way.chinese} {share(abs(change))}。",
            )
        )
    return sentences


def parameters(m):
    """Under parameters against performance."""
    more = m.last["parameters"] / m.first["parameters"]
    change = m.last["perplexity"] / m.first["perplexity"] - 1
    first, last = named(m.first["arm"]), named(m.last["arm"])
    way = Said("lower", "低") if change < 0 else Said("higher", "高")
    sizes = millions(m.last["parameters"]), millions(m.first["parameters"])
    return Said(
        f"{last.english} have {more:.1f} times the parameters of {first.english} "
        f"({sizes[0]} against {sizes[1]} million), and a perplexity that is {share(abs(change))} "
        f"{way.english} ({perplexity(m.last['perplexity'])} against "
        f"{perplexity(m.first['perplexity'])}).",
        f"{last.chinese} 的参数量是 {first.chinese} 的 {more:.1f} 倍"
        f"（{sizes[0]} 与 {sizes[1]} 百万），困惑度{way.chinese} {share(abs(change))}"
        f"（{perplexity(m.last['perplexity'])} 与 {perplexity(m.first['perplexity'])}）。",
    )


# --- texts ---------------------------------------------------------------------------------------
def shown_texts(m):
    """One text a model in full, by the last of the settings. -> rows"""
    texts = quality.like(m.texts, quality.SETTINGS[-1])
    return texts[texts["arm"] != quality.HUMAN].groupby("arm", sort=False).head(1)


def about_texts(m):
    row = shown_texts(m).iloc[0]
    top_k, top_p = f"top-k {row.top_k:.0f}", f"top-p {row.top_p:g}"
    return Said(
        f"One text a model, in full: {len(row.text):,} characters after the same prompt, drawn "
        f"with temperature {row.temperature:g}, {top_k}, {top_p} and seed {row.seed:.0f}. None was "
        "chosen by hand.",
        f"每个模型一段完整的文本：同一提示之后的 {len(row.text):,} 个字符，"
        f"温度 {row.temperature:g}，{top_k}，{top_p}，随机种子 {row.seed:.0f}。没有经过人工挑选。",
    )


def judged_by(m, column, form):
    """Each model's value and the human one. -> (Said of the models, of people)"""
    values = m.judged[column]
    models = [
        Said(*(f"{name} {form(value)}" for name in named(arm)))
        for arm, value in values.items()
        if arm != quality.HUMAN
    ]
    return listed(models), form(values[quality.HUMAN])


PRINTED = {"five_gram_loss": 2, "distinct_2": 3, "known_words": 3}  # digits after the point


def nearest_arms(m, column):
    """The models whose value, as it is printed, is nearest to that of human text; maybe none."""
    values = m.judged[column].round(PRINTED[column])
    apart = (values.drop(quality.HUMAN) - values[quality.HUMAN]).abs().round(PRINTED[column])
    return list(apart.index[apart == apart.min()])


def nearest(m, column):
    """The same in words."""
    arms = nearest_arms(m, column)
    if not arms:
        return Said("It can't be measured on this text.", "这段文本无法测量此项。")
    names = listed([named(arm) for arm in arms])
    if len(arms) > 1:
        return Said(
            f"Nearest to human text, and equally near: {names.english}.",
            f"最接近原文且同样接近的是 {names.chinese}。",
        )
    return Said(
        f"Nearest to human text: {names.english}.",
        f"最接近原文的是 {names.chinese}。",
    )


def coherence(m):
    models, people = judged_by(m, "five_gram_loss", number)
    return joined(
        Said(
            "How well each character follows from those before it: the loss of a 5-gram, counted "
            f"on the training text, on the text in nats/character: {models.english}; held-out "
            f"human text {people}. Lower is more predictable; a temperature below 1 and top-p "
            "alone can push it below the human value. It sees five characters at a time and knows "
            "nothing of sense.",
            "每个字符与前文衔接得如何：用训练文本统计出的五元语法对该文本的损失（奈特/字符）："
            f"{models.chinese}；留出的原文为 {people}。越低越容易预测；"
            "仅凭低于 1 的温度和 top-p 就能把它压到原文之下。"
            "它一次只看五个字符，不懂意思。",
        ),
        nearest(m, "five_gram_loss"),
    )


def diversity(m):
    models, people = judged_by(m, "distinct_2", share)
    again, human_again = judged_by(m, "repetition", share)
    return joined(
        Said(
            "How little a text repeats itself. Distinct pairs, different pairs of neighbouring "
            f"words as a share of all pairs: {models.english}; human text {people}. Repetition, "
            "stretches of 20 characters that stood in the same text before: "
            f"{again.english}; human text {human_again}.",
            "文本有多少不重复。不同词对，即相邻两词的不同组合占全部组合的比例："
            f"{models.chinese}；原文 {people}。重复，即在同一文本中已出现过的 20 字符片段的比例："
            f"{again.chinese}；原文 {human_again}。",
        ),
        nearest(m, "distinct_2"),
    )


def plausibility(m):
    models, people = judged_by(m, "known_words", share)
    copies, human_copy = judged_by(m, "longest_copy", whole)
    return joined(
        Said(
            "Whether the words could be the author's. Known words, the share that the training "
            f"text contains: {models.english}; human text {people}. That they are not merely "
            "copied is seen from the longest stretch that stands in the training text to the "
            f"letter, in characters: {copies.english}; human text {human_copy}.",
            "词语像不像出自原作者之手。已知词，即在训练文本中出现过的词所占的比例："
            f"{models.chinese}；原文 {people}。"
            "是否只是照抄，看与训练文本逐字相同的最长片段（字符）："
            f"{copies.chinese}；原文 {human_copy}。",
        ),
        nearest(m, "known_words"),
    )


def texts(m):
    """Under the picture of the texts: which model comes nearest to people, measure by measure."""
    names = {
        "five_gram_loss": Said("coherence (5-gram loss)", "连贯性（五元语法损失）"),
        "distinct_2": Said("diversity (distinct pairs)", "多样性（不同词对）"),
        "known_words": Said("plausibility (known words)", "合理性（已知词）"),
    }
    parts = []
    for column, name in names.items():
        arms = nearest_arms(m, column)
        if arms:
            who = listed([named(arm) for arm in arms])
            equal = Said(" equally", "（同样接近）") if len(arms) > 1 else Said("", "")
            parts.append(
                Said(
                    f"{who.english}{equal.english} in {name.english}",
                    f"{name.chinese}上是 {who.chinese}{equal.chinese}",
                )
            )
    pieces = m.texts.loc[m.texts["arm"] == quality.HUMAN, "text"]
    length = len(pieces.iloc[0])
    settings = Said(
        "The same texts, measured; the dotted lines are the means of human text, "
        f"{len(pieces)} pieces of the held-out text of {length:,} characters each.",
        f"对同一批文本的测量；虚线为原文的均值，取自留出文本中的 {len(pieces)} 段，"
        f"每段 {length:,} 个字符。",
    )
    if not parts:
        return settings
    english = "; ".join(part.english for part in parts)
    chinese = "；".join(part.chinese for part in parts)
    return joined(
        settings,
        Said(f"Nearest to it: {english}.", f"最接近原文的：{chinese}。"),
    )


# --- costs ---------------------------------------------------------------------------------------
def machine(m):
    """Which device trained, with how many threads."""
    places = dict.fromkeys(
        (r.environment["device"], str(r.environment["threads"])) for r in m.records
    )
    said = []
    for device, threads in places:
        count = plural(1, "thread") if threads == "1" else f"{threads} threads"
        said.append(Said(f"{device}, {count}", f"{device}，{threads} 个线程"))
    return listed(said)


def training_time(m):
    if m.arms["elapsed_s"].isna().all():
        return Said(
            "Training times are left out: the runs shared a GPU, so they say nothing.",
            "训练时间从略：各次训练共用一块 GPU，时间没有意义。",
        )
    times = listed(
        [
            Said(*(f"{name} {time}" for name, time in zip(named(arm), duration(s), strict=True)))
            for arm, s in zip(m.arms["arm"], m.arms["elapsed_s"], strict=True)
        ]
    )
    where = machine(m)
    over = (
        Said("mean over seeds; ", "各种子的均值；") if m.arms["seeds"].max() > 1 else Said("", "")
    )
    return Said(
        f"A run took, evaluations included: {times.english} ({over.english}{where.english}).",
        f"一次训练（含评估）用时：{times.chinese}（{over.chinese}{where.chinese}）。",
    )


def inference_speed(m):
    speeds = listed(
        each(
            m.arms,
            "{arm} {generation_characters_per_s:,.0f}",
            "{arm} {generation_characters_per_s:,.0f}",
        )
    )
    threads = int(m.first["generation_threads"])
    device = m.first["generation_device"]
    length = len(shown_texts(m).iloc[0].text)
    return Said(
        f"Written characters a second: {speeds.english} (median of 3 texts of {length:,} "
        f"characters, one text at a time, on {device} with {plural(threads, 'thread')}).",
        f"每秒生成的字符数：{speeds.chinese}（3 段 {length:,} 字符文本的中位数，一次一段，"
        f"设备 {device}，{threads} 个线程）。",
    )


def memory(m):
    models = listed(
        [
            Said(*(f"{name} {megabytes(mb)} MB" for name in named(arm)))
            for arm, mb in zip(m.arms["arm"], m.arms["model_mb"], strict=True)
        ]
    )
    return joined(
        Said(
            f"Memory of the model, its weights alone: {models.english}.",
            f"模型内存（仅权重）：{models.chinese}。",
        ),
        peak_of_each(m) if m.on_gpu else peak_of_all(m),
    )


def peak_of_each(m):
    """The most that each model's training held on a GPU, which counts anew for each run."""
    peaks = listed(
        [
            Said(*(f"{name} {megabytes(of_mebibytes(mib))} MB" for name in named(arm)))
            for arm, mib in zip(m.arms["arm"], m.arms["peak_memory_mb"], strict=True)
        ]
    )
    return Said(
        f"Memory on the GPU in training, all tensors at their peak: {peaks.english}.",
        f"训练时 GPU 上全部张量的内存峰值：{peaks.chinese}。",
    )


def peak_of_all(m):
    """The most that any process held: it only rises while a process trains one depth after another.

    Nothing where the system doesn't tell.
    """
    highest = m.final["peak_memory_mb"].max()
    if math.isnan(highest):
        return Said("", "")
    said = megabytes(of_mebibytes(highest))
    return Said(
        f"Highest memory of a training process, Python and PyTorch included: {said} MB; it can't "
        "be compared between depths, since one process may train several.",
        f"训练进程的最高内存（含 Python 与 PyTorch）：{said} MB；"
        "一个进程可能先后训练多种深度，所以无法在各深度之间比较。",
    )


# --- what it doesn't say, what it stands on, how to repeat it ------------------------------------
def limits(m):
    seeds = int(m.arms["seeds"].min())
    length = len(shown_texts(m).iloc[0].text)
    sure = ONE_SEED
    if seeds > 1:
        sure = Said(
            f"{seeds} seeds a depth: the intervals say how sure that makes the means of these "
            "runs, nothing more.",
            f"每种深度 {seeds} 个种子：区间只说明这些训练的均值有多可靠，仅此而已。",
        )
    return [
        sure,
        Said(
            f"{epochs(m.epochs)} epochs, and one learning rate for all depths: with more training, "
            "or a rate chosen for each depth, the order may be another.",
            f"{epochs(m.epochs)} 轮，各深度用同一学习率：训练更久，或为每种深度单独选学习率，"
            "次序可能不同。",
        ),
        Said(
            f"One text, {m.corpus.name}, and one language.",
            f"只有一个文本（{m.corpus.name}），一种语言。",
        ),
        Said(
            f"Texts are judged from one sample of {length:,} characters a model, by measures that "
            "count: none reads for sense.",
            f"每个模型只用一段 {length:,} 字符的文本来评判，且指标都是计数，没有一个读懂意思。",
        ),
        Said(
            "Times and speeds are those of this machine with whatever else it had to do; several "
            "runs may have trained at once.",
            "时间与速度是这台机器当时的表现：它可能同时在做别的事，也可能有几次训练同时进行。",
        ),
    ]


SOURCES = {
    "text": "Karpathy, A. (2015). char-rnn (the file Tiny Shakespeare). "
    "github.com/karpathy/char-rnn",
    "model": "Vaswani, A., et al. (2017). Attention is all you need. NeurIPS 30. arXiv:1706.03762",
    "rope": "Su, J., et al. (2021). RoFormer: enhanced Transformer with rotary position "
    "embedding. arXiv:2104.09864",
    "adamw": "Loshchilov, I., & Hutter, F. (2019). Decoupled weight decay regularization. ICLR. "
    "arXiv:1711.05101",
    "muon": "Jordan, K., et al. (2024). Muon: an optimizer for hidden layers in neural networks. "
    "kellerjordan.github.io/posts/muon",
    "distinct": "Li, J., et al. (2016). A diversity-promoting objective function for neural "
    "conversation models. NAACL-HLT. arXiv:1510.03055",
    "n-gram": "Witten, I. H., & Bell, T. C. (1991). The zero-frequency problem. IEEE Transactions "
    "on Information Theory 37(4). doi:10.1109/18.87000",
    "kneser-ney": "Chen, S. F., & Goodman, J. (1999). An empirical study of smoothing techniques "
    "for language modeling. Computer Speech & Language 13(4). doi:10.1006/csla.1999.0128",
    "course": "The authors of Shakespeare, Layer by Layer. Shakespeare, Layer by Layer. "
    "https://github.com/shakespeare-layer-by-layer/course",
}


def sources(m):
    """What this report stands on: the text and the methods that it used, and the course."""
    used = {"model", "adamw", "n-gram", "kneser-ney", "distinct", "course"}
    if m.corpus.is_real:
        used.add("text")
    if m.model.position == "rope":
        used.add("rope")
    if m.train.optimizer == "muon":
        used.add("muon")
    return [source for name, source in SOURCES.items() if name in used]


def described(m):
    """The text that was learnt from, in one line."""
    return Said(*(m.corpus.describe(language) for language in CODES))


def commands(m):
    """The command lines that made the runs."""
    return list(dict.fromkeys(r.environment["command"] for r in m.records))


def note(m):
    """The banner where the text is not Shakespeare's; nothing where it is."""
    if not m.corpus.note:
        return Said("", "")
    return Said(m.corpus.note, f"训练文本是 {m.corpus.name}，不是 Tiny Shakespeare。")
