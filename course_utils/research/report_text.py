"""What a report says in sentences, each computed from the study's numbers, in both languages."""

import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata

import pandas as pd

from course_utils.corpus import Corpus
from course_utils.figures.words import with_minus
from course_utils.generation import quality
from course_utils.lessons.data import split
from course_utils.lessons.model import GPTConfig
from course_utils.lessons.train import TrainConfig
from course_utils.messages import CODES
from course_utils.research import comparisons, costs, recorded
from course_utils.research.report_method import POSITIONS, cited, method, optimiser, wide
from course_utils.research.report_words import (
    Said,
    duration,
    each,
    epochs,
    human,
    in_myriads,
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
    arms: pd.DataFrame  # with the columns of costs.of_arms too
    texts: pd.DataFrame
    baselines: dict  # name -> nats/character
    comparisons: list  # each arm with the one before it; none where runs are too small to tell
    others: list = field(default_factory=list)  # groups.Groups of the same text, other questions

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
        return mean_of_seeds(self.curves.dropna(subset="validation_loss"))

    @cached_property
    def reported(self):
        """The same for all steps with a training loss; NaN where nothing was evaluated."""
        return mean_of_seeds(self.curves)

    @cached_property
    def validated_once(self):
        """Whether each run was evaluated at its end alone, so that there is no curve of it."""
        rows = self.curves.dropna(subset="validation_loss")
        return rows.groupby(["arm", "seed"]).size().max() == 1

    @cached_property
    def judged(self):
        """The measures of one text a model, by the last of the settings, and of human text."""
        texts = quality.like(self.texts, quality.SETTINGS[-1])
        measures = ["distinct_2", "repetition", "known_words", "longest_copy", "five_gram_loss"]
        return texts.groupby("arm", sort=False)[measures].mean()

    @cached_property
    def people(self):
        """The measures of each piece of human text: a row a piece."""
        return self.texts[self.texts["arm"] == quality.HUMAN]

    @cached_property
    def choices(self):
        """How many evaluations of a run could choose weights: each such row has a choosing_loss."""
        return max(sum("choosing_loss" in row for row in r.history) for r in self.records)

    @cached_property
    def pace(self):
        """The runs' own mean seconds a step, without evaluations: ({arm: seconds}, device, threads)

        Of runs made in one place and one way, the first such that has every arm; None without one.
        """
        of = ["device", "threads", "regime"]
        ways = [(r.environment["device"], r.environment["threads"], r.regime) for r in self.records]
        runs = pd.DataFrame(ways, columns=of).assign(arm=list(self.final["arm"]))
        characters = self.train.batch_size * self.model.context_length
        speeds = self.final["characters_per_s"].where(lambda speed: speed > 0)
        runs["seconds"] = list(characters / speeds)
        timed = runs.dropna(subset="seconds")
        for (device, threads, _), alike in timed.groupby(of, sort=False):
            if set(alike["arm"]) == set(self.final["arm"]):
                return alike.groupby("arm")["seconds"].mean().to_dict(), device, threads
        return None

    @property
    def was_busy(self):
        """Whether the steps timed here took over a third longer than the runs' own, made alike."""
        here = self.first["generation_device"], self.first["generation_threads"]
        if not self.pace or self.pace[1:] != here or "compiled" in self.records[0].regime:
            return False
        return any(row.step_s > 4 / 3 * self.pace[0][row.arm] for row in self.arms.itertuples())

    @property
    def chooses(self):
        return self.choices > 1

    @property
    def stopped_early(self):
        return self.final["steps"].min() < self.train.steps

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


def mean_of_seeds(rows):
    """Of each arm, for the steps that all its seeds have. rows: as tables.curves has them"""
    steps = rows.groupby(["arm", "step"], sort=False, as_index=False)
    means = steps[["epoch", "training_loss", "validation_loss"]].mean()
    seeds = rows.groupby("arm")["seed"].nunique()
    return means[steps.size()["size"] == means["arm"].map(seeds)]


# --- the question and its answer -----------------------------------------------------------------
def question(m):
    arms = listed([named(arm) for arm in m.arms["arm"]])
    steps = Said("", "")
    if m.stopped_early:
        means = mean_steps(m)
        steps = Said(
            f"; early stopping ended the runs after so many steps (mean): {means.english}",
            f"；因提前停止，平均训练步数为 {means.chinese}",
        )
    return Said(
        "How much better does a character-level Transformer predict its text as it gets deeper, "
        f"and what does the depth cost? Here {arms.english} are compared; all settings are the "
        f"same{steps.english}.",
        "字符级 Transformer 加深之后，预测文本的能力会提高多少，又要付出什么代价？"
        f"这里比较 {arms.chinese}，其余设置完全相同{steps.chinese}。",
    )


def mean_steps(m):
    """How many steps the runs of each arm made."""
    means = m.final.groupby("arm", sort=False)["steps"].mean().reset_index()
    return listed(each(means, "{arm} {steps:,.0f}", "{arm} {steps:,.0f}"))


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
        *([] if better else longer_runs(m, floor)),
        *verdicts(m),
        *more_seeds(m),
        price(m),
    )


def longer_runs(m, floor):
    """What this comparison reaches where it was published: larger, longer, better than counting."""
    train = len(split(m.corpus.text)[0])
    arms = {}
    for r in recorded.load("depth", corpus=m.corpus):
        arms.setdefault((r.recipe, r.arm), []).append(r)
    found = []
    for (_, arm), rs in arms.items():
        reached = sum(r.validation_loss for r in rs) / len(rs)
        longer = sum(r.history[-1]["characters"] for r in rs) / len(rs) / train
        if rs[0].parameters > m.best["parameters"] and longer > m.epochs and reached < floor:
            found.append((reached, longer, arm, rs))
    if not found:
        return []
    reached, longer, arm, rs = min(found, key=lambda one: one[0])
    name = named(arm)
    place = Said("", "中")
    if all("cuda" in r.regime for r in rs):
        place = Said(" on a GPU", "在 GPU 上进行，其中")
    mean = Said("", "")
    if len(rs) > 1:
        mean = Said(f", the mean of {len(rs)} seeds", f"（{len(rs)} 个种子的均值）")
    return [
        Said(
            f"The runs here are short, {epochs(m.epochs)} epochs. In the course's published runs "
            f"of this same comparison{place.english}, {name.english}, larger "
            f"({millions(rs[0].parameters)} million parameters) and trained for about "
            f"{longer:.0f} epochs, reach {loss(reached)}{mean.english}.",
            f"这里的训练很短，只有 {epochs(m.epochs)} 轮。本课程公布的同一对比{place.chinese}"
            f" {name.chinese}（模型更大，参数量 {in_myriads(rs[0].parameters)}，"
            f"训练约 {longer:.0f} 轮）达到 {loss(reached)}{mean.chinese}。",
        )
    ]


def price(m):
    """What the deepest costs, as a multiple of the shallowest."""
    first, last = named(m.first["arm"]), named(m.last["arm"])
    more = m.last["parameters"] / m.first["parameters"]
    longer = m.last["step_s"] / m.first["step_s"]
    where = m.first["generation_device"]
    if m.pace:
        seconds, where, _ = m.pace
        longer = seconds[m.last["arm"]] / seconds[m.first["arm"]]
    return Said(
        f"The price: {last.english} have {more:.1f} times the parameters of {first.english}, and a "
        f"training step takes {longer:.1f} times as long on {where}.",
        f"代价：{last.chinese} 的参数量是 {first.chinese} 的 {more:.1f} 倍，"
        f"在 {where} 上，每个训练步的用时是其 {longer:.1f} 倍。",
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
    return [
        still_open(one)
        if one.low <= 0 <= one.high
        else Said(*(with_minus(one.verdict_in(language)) for language in CODES))
        for one in m.comparisons
    ]


def still_open(one):
    """A difference that chance alone may have made: how large it is, and how sure."""
    arm, other = named(one.arm), named(one.other)
    side = Said("lower", "低") if one.difference < 0 else Said("higher", "高")
    by = loss(abs(one.difference))
    low, high = (with_minus(f"{end:+z.3f}") for end in (one.low, one.high))
    return Said(
        f"The loss of {arm.english} is {side.english} by {by} nats/character than that of "
        f"{other.english}, which isn't settled (95 % interval {low} to {high}, {one.pairs} paired "
        "seeds).",
        f"{arm.chinese} 的损失比 {other.chinese} {side.chinese} {by} 奈特/字符，但尚不能确定"
        f"（95% 置信区间 {low} 至 {high}，{one.pairs} 对种子）。",
    )


def more_seeds(m):
    """How many seeds have an even chance to settle what is open, lying as far apart as these.

    The interval of so many just misses 0 if their mean is the one seen here, and the mean of other
    seeds is as often nearer to 0 as it is farther.
    """
    unsettled = [one for one in m.comparisons if not (one.high < 0 or one.low > 0)]
    if not unsettled:
        return []
    if any(one.pairs < 2 for one in unsettled):
        return [
            Said(
                "One seed has no interval; `course run --seeds 3` adds two.",
                "单个种子得不出置信区间；`course run --seeds 3` 会再加两个种子。",
            )
        ]
    enough = [one.enough_seeds() for one in unsettled]
    if None in enough:
        return [
            Said(
                "So small a difference asks for many more seeds, if there is one.",
                "即使确有差异，也小到需要多得多的种子才能看出。",
            )
        ]
    n = max(enough)
    return [
        Said(
            "That the interval contains 0 doesn't mean that depth does nothing: if the true "
            f"difference is as large as the one seen here, {n} seeds in all, fixed beforehand, "
            "would find it with a chance of about one half.",
            "区间包含 0 并不表示深度不起作用：若真实差异与这里所见的一样大，"
            f"事先定好总共用 {n} 个种子，看出它的机会约为一半。",
        )
    ]


# --- figures -------------------------------------------------------------------------------------
ONE_SEED = Said(
    "One seed a depth, so nothing says how far seeds lie apart.",
    "每种深度只有一个种子，无从得知种子之间的差异。",
)


def titles(m):
    """What stands above each figure: what was found, where it was. -> name -> Said"""
    long = epochs(m.epochs)
    upto = Said(f"up to {long}", f"至多 {long}") if m.stopped_early else Said(long, long)
    if not m.is_settled:
        return {
            "curve": Said(
                f"Loss and perplexity over {upto.english} epochs",
                f"{upto.chinese} 轮训练中的损失与困惑度",
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
            f"After {upto.english} epochs {best.english} have the lowest validation loss",
            f"训练{upto.chinese} 轮之后，{best.chinese} 的验证损失最低",
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


ONCE = Said(
    "Each run was validated once, at the end: no validation curve; `course run` into an empty "
    "folder draws one.",
    "每次训练只在结束时验证一次，因此没有验证曲线；`course run` 写入空文件夹时会画出来。",
)


def curve(m):
    """Under the learning curves: from where to where, and what the end says."""
    parts = []
    falls = []
    ends = {}
    for arm, points in m.measured.groupby("arm", sort=False):
        begin, end = points.iloc[0], points.iloc[-1]
        ends[arm] = end.validation_loss
        name = named(arm)
        reached = f"{loss(end.validation_loss)} ({perplexity(math.exp(end.validation_loss))})"
        if len(points) == 1:
            parts.append(Said(f"{name.english} {reached}", f"{name.chinese} {reached}"))
            continue
        falls.append((arm, points.iloc[-2].validation_loss - end.validation_loss))
        start = f"{loss(begin.validation_loss)} ({perplexity(math.exp(begin.validation_loss))})"
        when = epochs(begin.epoch), epochs(end.epoch)
        parts.append(
            Said(
                f"{name.english} from {start} after {when[0]} epochs to {reached} after {when[1]}",
                f"{name.chinese} 从 {when[0]} 轮后的 {wide(start)}降到 {when[1]} 轮后的 "
                f"{wide(reached)}",
            )
        )
    said = listed(parts)
    return joined(
        Said(
            f"Validation loss, and in brackets perplexity: {said.english}.",
            f"验证损失（括号内为困惑度）：{said.chinese}。",
        ),
        ONCE if m.validated_once else Said("", ""),
        kept(m, ends),
        last_stretch(m, falls),
        training_gap(m),
    )


def kept(m, ends):
    """What the kept weights reach, where that is not the end of the mean line. ends: {arm: loss}"""
    if all(loss(ends[row.arm]) == loss(row.validation_loss) for row in m.arms.itertuples()):
        return Said("", "")
    reached = each(m.arms, "{arm} {validation_loss:.3f}", "{arm} {validation_loss:.3f}")
    reached = listed(reached)
    return Said(
        "A mean line ends where the first of its seeds stopped. The weights that are kept, the "
        f"best of each seed, have these mean losses, which all that follows is about: "
        f"{reached.english}.",
        "均值曲线止于最早停止的种子。保留的是每个种子的最佳权重，其平均损失如下，"
        f"下文各处均指此值：{reached.chinese}。",
    )


def last_stretch(m, falls):
    """What the curves' ends say about longer training. falls: (arm, how far its loss fell)"""
    if m.stopped_early:
        return Said(
            f"Runs stopped when {m.train.patience} evaluations in a row brought nothing better.",
            f"连续 {m.train.patience} 次评估没有改进时，训练停止。",
        )
    if not falls:
        return Said("", "")
    least, most = loss(min(fall for _, fall in falls)), loss(max(fall for _, fall in falls))
    if float(most) <= 0:
        return Said(
            "From the last evaluation but one to the last no loss fell.",
            "从倒数第二次到最后一次评估，没有一条损失继续下降。",
        )
    by = Said(least, least)
    if least != most:
        by = Said(with_minus(f"{least} to {most}"), with_minus(f"{least} 至 {most}"))
    if m.train.decay:
        return Said(
            f"From the last evaluation but one to the last the losses fell by {by.english}, while "
            "the learning rate went to 0: whether longer training would help can't be read from "
            "that.",
            f"从倒数第二次到最后一次评估，损失下降了 {by.chinese}，而此时学习率正降到 0："
            "由此看不出训练更久是否更好。",
        )
    return Said(
        f"From the last evaluation but one to the last the losses fell by {by.english}: longer "
        "training may lower them further.",
        f"从倒数第二次到最后一次评估，损失下降了 {by.chinese}：训练更久可能还会更低。",
    )


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
        f"{side.english} the training loss ({name.english}){dropout.english}.",
        f"在保留的权重处，验证损失比训练损失{dropout.chinese}至多{side.chinese} "
        f"{loss(abs(gap))}（{name.chinese}）。",
    )


def bars(m):
    """Under the ablation bars: what each step in depth buys."""
    reached = listed(each(m.arms, "{arm} {validation_loss:.3f}", "{arm} {validation_loss:.3f}"))
    steps = steps_in_perplexity(m)
    seeds = int(m.arms["seeds"].min())
    sure = ONE_SEED
    if seeds > 1:
        sure = Said(
            f"Means of {seeds} seeds; the lines are their 95 % intervals.",
            f"各值为 {seeds} 个种子的均值，横线为其 95% 置信区间。",
        )
    stops = Said("", "")
    if m.stopped_early and m.arms["elapsed_s"].notna().any():
        stops = Said(
            "Training times also depend on how soon runs stopped.",
            "训练时间还取决于训练何时停止。",
        )
    return joined(
        Said(f"Validation loss: {reached.english}.", f"验证损失：{reached.chinese}。"),
        *steps,
        sure,
        stops,
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
    counts = m.last["parameters"], m.first["parameters"]
    sizes = [*map(millions, counts), *map(in_myriads, counts)]
    return Said(
        f"{last.english} have {more:.1f} times the parameters of {first.english} "
        f"({sizes[0]} against {sizes[1]} million), and a perplexity that is {share(abs(change))} "
        f"{way.english} ({perplexity(m.last['perplexity'])} against "
        f"{perplexity(m.first['perplexity'])}).",
        f"{last.chinese} 的参数量是 {first.chinese} 的 {more:.1f} 倍"
        f"（{sizes[2]} 与 {sizes[3]}），困惑度{way.chinese} {share(abs(change))}"
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
    fan, holtzman = "Fan et al., 2018", "Holtzman et al., 2020"
    return Said(
        f"One text a model, in full: {len(row.text):,} characters after the same prompt, drawn "
        f"with temperature {row.temperature:g}, {top_k} ({fan}), {top_p} ({holtzman}) and seed "
        f"{row.seed:.0f}. None was chosen by hand.",
        f"每个模型一段完整的文本：同一提示之后的 {len(row.text):,} 个字符，温度 "
        f"{row.temperature:g}，{top_k}（{fan}），{top_p}（{holtzman}），"
        f"随机种子 {row.seed:.0f}。没有经过人工挑选。",
    )


def about_quality(m):
    """What these measures are good for, and what the human reference is."""
    pieces = m.people["text"]
    return Said(
        f"Each model's text is held against the human reference: {len(pieces)} pieces of "
        f"{len(pieces.iloc[0]):,} characters of the held-out text. Models were kept from unlikely "
        "characters by the settings above, people were not. One text a model can't rank the "
        "models (All numbers has those of other settings), and whether a text makes sense no "
        "count can tell: read them.",
        f"每个模型的文本都与{human(m)}对照：留出文本中的 {len(pieces)} 段，每段 "
        f"{len(pieces.iloc[0]):,} 个字符。上述设置不让模型选用不大可能的字符，"
        f"{human(m)}则没有这种限制。每个模型只有一段文本，不足以给模型排名"
        "（其他设置下的文本见“全部数据”）；文本是否通顺达意，计数判断不了，要读了才知道。",
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


def beside_people(m, column, form):
    """Which models lie within what the pieces of human text span, which above and below."""
    low, high = m.people[column].min(), m.people[column].max()
    models = m.judged[column].drop(quality.HUMAN).dropna()
    if models.empty or math.isnan(low):
        return Said("It can't be measured on this text.", "这段文本无法测量此项。")
    where = {
        Said("within it", "在此范围之内"): models.between(low, high),
        Said("below it", "低于此范围"): models < low,
        Said("above it", "高于此范围"): models > high,
    }
    parts = []
    for place, those in where.items():
        if those.any():
            names = listed([named(arm) for arm in models.index[those]])
            parts.append(
                Said(f"{place.english} {names.english}", f"{place.chinese}的是 {names.chinese}")
            )
    english = "; ".join(part.english for part in parts)
    chinese = "；".join(part.chinese for part in parts)
    return Said(
        f"The human pieces span {form(low)} to {form(high)}; {english}.",
        f"{human(m)}各段的范围是 {form(low)} 至 {form(high)}；{chinese}。",
    )


def coherence(m):
    models, people = judged_by(m, "five_gram_loss", number)
    return joined(
        Said(
            "How well each character follows from the four before it: the loss of a 5-gram, "
            f"counted on the training text, on the written text in nats/character: "
            f"{models.english}; human reference {people}. Lower is more predictable, which a "
            "temperature below 1 and top-p alone can bring about.",
            "每个字符与前四个字符衔接得如何：用训练文本统计出的五元语法在所写文本上的损失"
            f"（奈特/字符）：{models.chinese}；{human(m)} {people}。越低越容易预测，"
            "而仅凭低于 1 的温度和 top-p 就能使它降低。",
        ),
        beside_people(m, "five_gram_loss", number),
    )


def diversity(m):
    models, people = judged_by(m, "distinct_2", share)
    again, human_again = judged_by(m, "repetition", share)
    return joined(
        Said(
            "How little a text repeats itself. Distinct pairs, the share of different ones among "
            f"all pairs of neighbouring words (Li et al., 2016): {models.english}; human reference "
            f"{people}.",
            "文本的重复程度有多低。不同词对，即相邻两词的不同组合占全部组合的比例"
            f"（Li et al., 2016）：{models.chinese}；{human(m)} {people}。",
        ),
        beside_people(m, "distinct_2", share),
        Said(
            "Repetition, the share of stretches of 20 characters that stood in the same text "
            f"before: {again.english}; human reference {human_again}.",
            "重复，即在同一文本中已出现过的 20 字符片段所占的比例："
            f"{again.chinese}；{human(m)} {human_again}。",
        ),
    )


def plausibility(m):
    models, people = judged_by(m, "known_words", share)
    copies, human_copy = judged_by(m, "longest_copy", whole)
    return joined(
        Said(
            "Whether the words could be the author's. Known words, the share that the training "
            f"text contains: {models.english}; human reference {people}.",
            "词语像不像出自原作者之手。已知词，即在训练文本中出现过的词所占的比例："
            f"{models.chinese}；{human(m)} {people}。",
        ),
        beside_people(m, "known_words", share),
        Said(
            "That they are not merely copied is seen from the longest stretch that stands in the "
            f"training text to the letter, in characters: {copies.english}; human reference "
            f"{human_copy}.",
            "是否只是照抄，看与训练文本逐字相同的最长片段（字符）："
            f"{copies.chinese}；{human(m)} {human_copy}。",
        ),
    )


COUNTS = ("five_gram_loss", "distinct_2", "repetition", "known_words")


def told_apart(m):
    """Whether the counts above tell the depths apart: all have one order, the nearest to the human
    reference first, and by some of them the ends are farther apart than pieces of one author."""
    models = m.judged.drop(quality.HUMAN)[list(COUNTS)].dropna(axis="columns")
    if len(models) < 2 or models.empty:
        return Said("", "")
    spread = m.people[models.columns].max() - m.people[models.columns].min()
    wide_apart = int((models.max() - models.min() > spread).sum())
    away = (models - m.judged.loc[quality.HUMAN, models.columns]).abs()
    orders = {tuple(away.index[away[column].argsort()]) for column in away}
    if len(orders) > 1:
        because = Said("their order differs from one to another", "各项给出的次序不一致")
    elif not wide_apart:
        because = Said(
            "by none of them do they lie farther apart than the human pieces",
            "没有一项的差距大于原文各段之间的差距",
        )
    else:
        order = listed([named(arm) for arm in orders.pop()])
        return Said(
            f"By these counts the depths have one order, the nearest to the human pieces first: "
            f"{order.english}; by {wide_apart} of {models.shape[1]} the first and the last lie "
            "farther apart than those pieces do.",
            f"各项计数给出同一次序，从最接近原文的起：{order.chinese}；"
            f"{models.shape[1]} 项中有 {wide_apart} 项，首尾的差距大于原文各段之间的差距。",
        )
    return Said(
        f"By these counts the depths can't be told apart: {because.english}.",
        f"按这些计数无法区分各深度：{because.chinese}。",
    )


def texts(m):
    """Under the picture of the texts: what its marks mean."""
    length = len(m.people["text"].iloc[0])
    return Said(
        "The beginnings of the same texts, and their measures. Diamond and dotted line: the mean "
        f"of the human reference; small grey dots: its {len(m.people)} pieces of {length:,} "
        "characters each. How far these lie apart is what one text's value may differ by.",
        f"同一批文本的开头及其各项指标。菱形与虚线：{human(m)}"
        f"（图中的“{named(quality.HUMAN).chinese}”）的均值；"
        f"灰色小点：其 {len(m.people)} 段，每段 {length:,} 个字符。"
        "各段之间的差距，就是单段文本的数值可能有的偏差。",
    )


# --- costs ---------------------------------------------------------------------------------------
def machine(records):
    """Which device trained these, with how many threads."""
    places = dict.fromkeys(
        (r.environment["device"], int(r.environment["threads"])) for r in records
    )
    return listed([on(device, threads) for device, threads in places])


def training_time(m):
    times = m.final["elapsed_s"]
    if times.isna().all():
        return joined(
            Said(
                "Training times are left out: the runs shared a GPU, so they say nothing.",
                "训练时间从略：各次训练共用一块 GPU，时间没有意义。",
            ),
            a_step(m),
        )
    runs = [
        Said(*(f"{name} {time}" for name, time in zip(named(arm), duration(s), strict=True)))
        for arm, s in zip(m.arms["arm"], m.arms["elapsed_s"], strict=True)
        if not math.isnan(s)
    ]
    took = listed(runs)
    where = machine([r for r, s in zip(m.records, times, strict=True) if not math.isnan(s)])
    of = Said("", "")
    if m.arms["seeds"].max() > 1 and len(runs) < times.notna().sum():
        of = Said("mean over seeds; ", "各种子的均值；")
    if times.isna().any():
        counted = times.notna().sum(), len(times)
        of = Said(
            f"{of.english}{counted[0]} of {counted[1]} runs, since the others shared a GPU; ",
            f"{of.chinese}共 {counted[1]} 次训练，仅计其中 {counted[0]} 次，其余共用 GPU；",
        )
    return joined(
        Said(
            f"A run took, evaluations included: {took.english} ({of.english}{where.english}).",
            f"一次训练（含评估）用时：{took.chinese}（{of.chinese}{where.chinese}）。",
        ),
        setup(m),
        lengths(m),
        a_step(m),
    )


def setup(m):
    """What the times above leave out: what comes before the first step."""
    seconds = [r.setup_s for r in m.records]
    if max(seconds) < 0.05:
        return Said("", "")
    least, most = min(seconds), max(seconds)
    took = Said(f"{least:.1f} to {most:.1f} s", f"{least:.1f} 至 {most:.1f} 秒")
    if f"{least:.1f}" == f"{most:.1f}":
        took = Said(f"{most:.1f} s", f"{most:.1f} 秒")
    what = Said("Preparing the first step", "准备第一步")
    if any("compiled" in r.regime for r in m.records):
        what = Said("Compiling, and preparing the first step", "编译并准备第一步")
    return Said(
        f"{what.english}, {took.english} a run, is left out.",
        f"{what.chinese}每次用时 {took.chinese}，不计在内。",
    )


def lengths(m):
    """How many steps the runs made, where early stopping ended them."""
    if not m.stopped_early:
        return Said("", "")
    steps = mean_steps(m)
    return Said(
        f"They stopped after so many steps (mean): {steps.english}.",
        f"平均停止步数：{steps.chinese}。",
    )


def a_step(m):
    """What a step of each depth takes: the runs' own, and single ones timed here."""
    timed = in_ms(m, m.arms["step_s"])
    where = here(m)
    own = Said("", "")
    if m.pace:
        seconds, device, threads = m.pace
        mean = in_ms(m, m.arms["arm"].map(seconds))
        of = on(device, threads)
        own = Said(
            "The price of depth is read from the mean step of the runs, without evaluations: "
            f"{mean.english} ({of.english}).",
            f"深度的代价以各次训练的平均训练步用时（不含评估）衡量：{mean.chinese}（{of.chinese}）。",
        )
    begin = Said("The price of depth is read from single steps", "深度的代价以单个训练步衡量，")
    if m.pace:
        begin = Said("Single steps", "另测单个训练步，")
    busy = Said("", "")
    if m.was_busy:
        busy = Said(
            "These are slower than the runs' own by more than a third: the machine was busy when "
            "this was timed.",
            "这比训练时的平均用时慢三分之一以上：测量时机器正忙。",
        )
    return joined(
        own,
        Said(
            f"{begin.english}, timed in turn when this page was made: {timed.english} (the fastest "
            f"of {costs.STEPS}; {where.english}).",
            f"{begin.chinese}在生成本页时轮流计时：{timed.chinese}"
            f"（{costs.STEPS} 次中最快的一次；{where.chinese}）。",
        ),
        busy,
    )


def in_ms(m, seconds):
    """A time of each arm, seconds in their order."""
    parts = []
    for arm, s in zip(m.arms["arm"], seconds, strict=True):
        ms = megabytes(1e3 * s)
        name = named(arm)
        parts.append(Said(f"{name.english} {ms} ms", f"{name.chinese} {ms} 毫秒"))
    return listed(parts)


def here(m):
    """Where the page was made."""
    return on(m.first["generation_device"], int(m.first["generation_threads"]))


def on(device, threads):
    return Said(f"{device}, {plural(threads, 'thread')}", f"{device}，{threads} 个线程")


def inference_speed(m):
    speeds = listed(
        each(
            m.arms,
            "{arm} {generation_characters_per_s:,.0f} ({generation_low:,.0f} to "
            "{generation_high:,.0f})",
            "{arm} {generation_characters_per_s:,.0f}（{generation_low:,.0f} 至 "
            "{generation_high:,.0f}）",
        )
    )
    length = len(shown_texts(m).iloc[0].text)
    where = here(m)
    return Said(
        f"Written characters a second: {speeds.english}; the median, the lowest and the highest of "
        f"{costs.TEXTS} texts of {length:,} characters, models in turn, one text at a time, at "
        "temperature 1, with a key-value cache; past the context a window is read anew "
        f"({where.english}).",
        f"每秒生成的字符数：{speeds.chinese}；为 {costs.TEXTS} 段 {length:,} 字符文本的中位数"
        "（最低至最高），各模型轮流，一次一段，温度为 1，使用键值缓存，超出上下文后重新读取窗口"
        f"（{where.chinese}）。",
    )


def memory(m):
    return joined(
        Said(
            f"Memory of the model, its weights alone: {in_mb(m, 'model_mb').english}.",
            f"模型内存（仅权重）：{in_mb(m, 'model_mb').chinese}。",
        ),
        Said(
            "A plain training step in fp32, for comparison, holds weights, gradients, the "
            "optimiser's memory and the activations for the backward pass, counted tensor by "
            "tensor: "
            f"{in_mb(m, 'training_mb').english}.",
            "作为比较，一个 fp32 训练步要容纳权重、梯度、优化器状态和供反向传播用的激活值，"
            f"逐个张量相加：{in_mb(m, 'training_mb').chinese}。",
        ),
        peak_on_gpu(m) if m.on_gpu else peak_of_all(m),
    )


def in_mb(m, column, form=float):
    parts = zip(m.arms["arm"], m.arms[column].map(form), strict=True)
    return listed(
        [Said(*(f"{name} {megabytes(mb)} MB" for name in named(arm))) for arm, mb in parts]
    )


def peak_on_gpu(m):
    """The most that training held on a GPU: in its steps alone, where all records have that."""
    if m.arms["step_memory_mb"].notna().all():
        peaks = in_mb(m, "step_memory_mb", of_mebibytes)
        return Said(
            f"Measured on the GPU, the peak of the steps alone: {peaks.english}.",
            f"在 GPU 上实测，仅计训练步的内存峰值：{peaks.chinese}。",
        )
    said = megabytes(of_mebibytes(m.final["peak_memory_mb"].max()))
    return Said(
        f"Highest memory on the GPU: {said} MB, evaluations included, which read more text at once "
        "than a step does; so it says nothing of a depth.",
        f"GPU 内存最高为 {said} MB，其中含评估；评估一次读取的文本比训练步多，"
        "所以看不出深度的影响。",
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
            f"{seeds} seeds a depth: the intervals cover chance between seeds, not another text or "
            "other settings.",
            f"每种深度 {seeds} 个种子：区间只反映种子之间的偶然差异，不涵盖别的文本或设置。",
        )
    return [
        sure,
        untouched(m),
        Said(
            f"{epochs(m.epochs)} epochs at most, and one learning rate for all depths: with more "
            "training, or a rate chosen for each depth, the order may be another.",
            f"至多 {epochs(m.epochs)} 轮，各深度用同一学习率：训练更久，"
            "或为每种深度单独选学习率，次序可能不同。",
        ),
        Said(
            f"One text, {m.corpus.name}, and one language.",
            f"只有一个文本（{m.corpus.name}），一种语言。",
        ),
        Said(
            f"Texts are judged from one sample of {length:,} characters a model, by measures that "
            "count: none reads for sense.",
            f"每个模型只用一段 {length:,} 字符的文本来评判，且指标都是计数，无法判断语义。",
        ),
        Said(
            "Times and speeds are those of this machine with whatever else it had to do; several "
            "runs may have trained at once.",
            "时间与速度是这台机器当时的表现：它可能同时在做别的事，也可能有几次训练同时进行。",
        ),
    ]


def untouched(m):
    """Whether the text that judges has chosen anything, and what the part says that has not."""
    if not m.chooses:
        return Said(
            "No separate test text; but the held-out text has chosen nothing here: neither weights "
            "nor when to stop.",
            "没有单独的测试文本；不过留出文本在这里没有参与任何选择，"
            "既不决定保留哪些权重，也不决定何时停止。",
        )
    halves = listed(each(m.arms, "{arm} {reporting_loss:.3f}", "{arm} {reporting_loss:.3f}"))
    return Said(
        "No separate test text: the first half of the held-out text chose the weights, and is in "
        f"the validation loss. On the second half alone, which chose nothing: {halves.english}.",
        "没有单独的测试文本：留出文本的前一半决定了保留哪些权重，而它也计入验证损失。"
        f"仅看没有参与选择的后一半：{halves.chinese}。",
    )


def other_ablations(m):
    """What other questions the results folder holds answers to; or how they come in."""
    if not m.others:
        return Said(
            "None lies in this results folder. `course ablate position norm` trains models without "
            "positions, with other norms and so on, and `course run` then shows them here; "
            "`course ablate --help` lists all that can be asked.",
            "这个结果文件夹里没有。`course ablate position norm` 会训练没有位置编码、"
            "换用其他归一化等的模型，之后 `course run` 会把结果写在这里；"
            "`course ablate --help` 列出所有可做的消融。",
        )
    return Said(
        "The same text, one choice changed at a time. A difference below 0 is an arm that predicts "
        "better; beside it stands its 95 % interval, over the seeds that both have.",
        "同一文本，每次只改变一项选择。差值小于 0 表示该设置预测得更好；"
        "其后是 95% 置信区间，按两者共有的种子计算。",
    )


def settings_of(group):
    """How the runs of another study were made, from the record of its reference or first arm."""
    arms = group.arms
    first = arms.get(group.reference) or next(iter(arms.values()))
    r = first[0]
    model, train = GPTConfig(**r.model), TrainConfig(**r.train)
    by, position = optimiser(train), POSITIONS[model.position]
    who = named(r.arm)
    if r.arm == comparisons.REFERENCE:
        who = Said("What the arms change", "各项消融所改动的原设置")
    steps = r.history[-1]["step"]
    return Said(
        f"{who.english}: {plural(model.n_layers, 'layer')}, context {model.context_length:,}, "
        f"{position.english}, {by.english}, {steps:,} steps; not comparable with the depths above.",
        f"{who.chinese}：{model.n_layers} 层，上下文 {model.context_length:,}，"
        f"{position.chinese}，{by.chinese}，{steps:,} 步；不能与上面的各深度比较。",
    )


# --- what it stands on, and what it was ----------------------------------------------------------
def sources(m):
    """What the sentences above name, in full."""
    spoken = [*method(m), *map(settings_of, m.others), about_texts(m), diversity(m)]
    return cited(spoken, version())


def version():
    """Of the course."""
    return metadata.version("shakespeare-layer-by-layer")


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
