# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] english="c2abead4"
# # 5 · 消融实验：层数起什么作用？
#
# 模型更深就更好吗？每种深度训练一个，总会有一个胜出；可换一个种子，名次也许就倒过来。所以要多用几个种子，而且只下这些差异能支持的结论。你会看到，答案取决于实验方案，也取决于在哪段文本上测量。

# %% [markdown] english="6003379d"
# **你将学会**：区分真实的差异和偶然的波动 · 公平地选学习率 · 比较许多实验组，而不被偶然的结果误导。
#
# **预备知识**：[第 4 讲](04_train.ipynb)、[二十行 PyTorch](../../book/zh/pytorch.md)、均值和标准差；**时间**：阅读约 25 分钟；如果已有运行结果，运行代码约一分钟，否则约二十五分钟。

# %% tags=["setup"]
import importlib.util
import subprocess
import sys

# On Colab: add the course, replace nothing that is there.
if importlib.util.find_spec("course_utils") is None:
    address = "git+https://github.com/shakespeare-layer-by-layer/course"
    wanted = "anywidget", "psygnal"  # for lesson 6's widget
    light = [name for name in wanted if importlib.util.find_spec(name) is None]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*install, address, *light], check=True)

# 图、表和提示都用中文；图里的汉字用 zhplot 带来的字体。
import os

_ = os.environ.setdefault("COURSE_LANGUAGE", "zh")
if importlib.util.find_spec("zhplot") is None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*install, "zhplot"], check=True)

# %% tags=["export"]
import itertools

import torch

# %%
import pandas as pd
from scipy import stats

from course_utils import checks, corpus, figures
from course_utils.research import comparisons, recorded, studies, tables

# %% [markdown] english="d437d446"
# 文本：

# %% tags=["nbval-ignore-output"]
text = corpus.load()
print(text.describe())

# %% [markdown] english="0949cffd"
# ## 先把问题写下来
#
# 一项**实验**（study）由一个问题和几个*实验组*（arm）组成，各组之间只改一项设置：这里只改深度。同一个**种子**（seed）给所有的组定下同样的批次，所以这些运行是*配对*的：如果批次碰巧抽得好，各组可能都受益。

# %%
study = studies.STUDIES["depth"]
print(study.question, study.arms)

# %% [markdown] english="eb230530"
# ## 运行
#
# 还没有运行结果的，现在就训练。
#
# > **先猜。** 6 层的损失会比 2 层低多少？4 层会正好在中间吗？

# %% tags=["nbval-ignore-output"]
records = studies.records(study, text, seeds=3)
steps = records[0].train["steps"]
print(f"{len(records)} 次运行，每次 {steps} 步，训练配方 {records[0].recipe}")

# %% tags=["nbval-ignore-output"]
final = tables.final_table(records)
by_arm = final.pivot(index="seed", columns="arm", values="validation_loss")
by_arm.round(3)

# %% tags=["nbval-ignore-output"]
depths = [2, 4, 6]
by_seed = {f"种子 {seed}": row.tolist() for seed, row in by_arm.iterrows()}
title = "每个种子一条线"
labels = ("层数", "验证损失（奈特/字符）")
figures.lines(depths, by_seed, *labels, title=title, note=text.note)

# %% [markdown] english="f2ab352b"
# 重要的是线有多陡，也就是*差异*。付出的代价见下表：

# %% tags=["nbval-ignore-output"]
arms = tables.arm_table(final)
costs = ["parameters", "elapsed_s", "training_loss", "validation_loss", "perplexity"]
arms.set_index("arm")[costs].round(3).astype(object).T

# %% [markdown] english="94f39035"
# ## 有多大把握？
#
# 如果深度毫无作用，一个种子给出的差异是 $+d$ 还是 $-d$，可能性一样大。那就枚举翻转正负号的所有方式，逐一算出均值。其中至少与实际的均值同样极端的（绝对值不比它的小），所占的比例就是**符号翻转检验**（sign-flip test）的 p 值（Fisher，1935）。


# %% tags=["export"]
def sign_flip_p(differences):
    """Two-sided p-value of paired differences, one a seed: Fisher (1935).

    The share of all 2**n flips of signs that are at least as extreme as what was seen.
    """
    d = torch.tensor(differences, dtype=torch.float64)
    flips = list(itertools.product((1.0, -1.0), repeat=len(d)))
    sums = torch.tensor(flips, dtype=torch.float64) @ d
    return (sums.abs() >= d.sum().abs() - 1e-12).double().mean().item()


# %%
for n in (2, 3, 5, 6, 8):
    print(f"{n} 个种子，方向全都相同：p = {sign_flip_p([0.05] * n):.3f}")

# %% [markdown] english="33a0426d"
# 三个种子就算方向一致，也只得到 p = 0.25（八种翻转里的两种）：种子太少，说明不了问题。六个才达到通常的 0.05，而且只够检验*一个*问题。种子更少，或者问题更多，就要多作一个假定：差异服从正态分布。$n$ 个差异的标准差是 $s$，那么 $s / \sqrt n$ 就是**标准误**（standard error）。求得的均值与真实的均值之差，以标准误为单位，服从 **t 分布**（Student's t）：$n = 3$ 时，100 次实验里有 95 次，不论正负，至多相差 4.3 个标准误。所以同样有这么多次，均值 ± 4.3 个标准误的范围含有真实的均值。这个范围就是置信区间（confidence interval，下面简称区间），后面的每个结论都用它：


# %%
def interval(differences, confidence=0.95):
    """The mean of n differences and its t interval: (low, mean, high)."""
    d = torch.tensor(differences, dtype=torch.float64)
    n = len(d)
    # What 97.5 % of all such t lie below (for 95 %), with n - 1 degrees of freedom: n numbers,
    # less the one mean that is taken from them
    t = stats.t.ppf((1 + confidence) / 2, n - 1)
    half = t * d.std().item() / n**0.5
    return d.mean().item() - half, d.mean().item(), d.mean().item() + half


# %% [markdown] english="56927f49"
# > **先猜。** 加上第三个种子，区间会窄多少？

# %% tags=["nbval-ignore-output"]
for seeds in (2, 3):
    for deeper, shallower in (("4 layers", "2 layers"), ("6 layers", "4 layers")):
        differences = (by_arm[deeper] - by_arm[shallower]).head(seeds)
        low, mean, high = interval(differences.tolist())
        print(f"{seeds} 个种子，{deeper} - {shallower}：{mean:+.3f}（{low:+.3f} 到 {high:+.3f}）")

# %% [markdown] english="ebd89465"
# 加上第三个种子，两个区间都收窄到原来的三分之一左右，甚至更窄。只用两个种子时，一个区间的宽度是另一个的两倍多，这可能只是偶然：由两个值算出的标准差（也叫**分散程度**，spread）本身就很不稳定，t 会为此留出余量：

# %%
draws = torch.randn(100_000, 8, generator=torch.Generator().manual_seed(0))
rows = {}
for n in (2, 3, 6, 8):
    low, high = draws[:, :n].std(1).quantile(torch.tensor([0.05, 0.95])).tolist()
    t = stats.t.ppf(0.975, n - 1)
    rows[n] = {"t": t, "半宽（标准差的倍数）": t / n**0.5}
    rows[n]["十次里有九次，算出的标准差是"] = f"真实值的 {low:.2f}～{high:.2f} 倍"
pd.DataFrame(rows).T.rename_axis("种子数").infer_objects().round(2)

# %% [markdown] english="1dbcd1b1"
# 由两个种子算出的标准差，可能只有真实值的十六分之一，也可能是它的两倍，所以 t 是 12.7。这样求出的区间，100 次实验里有 95 次包含真实的平均差异；眼前这次是不是其中之一，谁也不知道。如果区间不含 0，就有理由认为差异确实在这个方向上，但只限于*这套训练配方、这个预算、这段文本*。
#
# ## 六个种子，一块 GPU
#
# **已记录的实验**（recorded study，运行结果随课程附带）训练的是第 3 讲默认设置的模型（baseline），每种深度六个种子，用的是原始方案：学习率恒为 1e-4（偏低，后面会看到），连续五次评估没有改进就结束。保留哪一步的模型，由验证集的*前*一半决定，所以前一半上的损失偏乐观；结论只看*后*一半，表里的验证损失则是两半合起来的。
#
# > **先猜。** 相邻两种深度之间，哪个差异会明显不为零？

# %%
depth = recorded.load("depth")
note = text.note and depth[0].corpus["name"]
second_half = "reporting_loss"  # of the validation split
for comparison in comparisons.adjacent(depth, second_half):
    print(comparison.verdict)
columns = ["best_step", "training_loss", "validation_loss"]
tables.final_table(depth).groupby("arm", sort=False)[columns].mean().round(3)

# %% [markdown] english="8edd493d"
# 从两层增加到四层，损失降到了第 1 讲的 Kneser–Ney（1.517）以下；从四层再增加到六层，六个种子看不出差异。但各组停下的步数不同。看看训练的过程（名字标在所有种子都到达的最后一步）：

# %%
figures.training_curves(tables.curves(depth), None, note=note)

# %%
losses = tables.curves(depth).pivot(index="step", columns=["arm", "seed"], values=second_half)
rows = {}
for step in (1220, 2440, 4880, 7320, 9150):
    at = losses.loc[step].unstack("arm")
    for deeper, shallower in (("4 layers", "2 layers"), ("6 layers", "4 layers")):
        low, mean, high = interval((at[deeper] - at[shallower]).tolist())
        gap = f"{mean:+.3f}（{low:+.3f} 到 {high:+.3f}）"
        rows.setdefault(step, {})[f"{deeper} - {shallower}"] = gap
pd.DataFrame(rows).T.rename_axis("步数")

# %% [markdown] english="bacbe124"
# **在这里，深度换来的是每一步学得更快。** 步数相同时，六层领先四层，除最后一行外都很明显；从 2,440 步起，领先的幅度在缩小。而上面的结论，比较的是各组损失最低的那一步，所以这个结论取决于原始方案。
#
# ## 收益在文本的哪些位置
#
# 每条记录还按窗口里的位置存着损失，这些位置分成长度逐次加倍的若干段；在第一段，只凭一个字符来猜。
#
# > **先猜。** 增加层数，收益更大的是窗口开头附近，还是窗口里靠后的位置？

# %%
places = 2 ** torch.arange(len(depth[0].position_losses))  # each range ends here
by_place = {}
for record in depth:
    losses = torch.tensor(record.position_losses, dtype=torch.float64)
    by_place.setdefault(record.arm, []).append(losses)
by_place = {arm: torch.stack(runs) for arm, runs in by_place.items()}  # (seeds, ranges)

# %%
pairs = [("4 layers", "2 layers"), ("6 layers", "4 layers")]
gaps = {f"{a} - {b}": (by_place[a] - by_place[b]).T for a, b in pairs}
series, bands = {}, {}
for name, of_seeds in gaps.items():
    low, mean, high = zip(*map(interval, of_seeds.tolist()), strict=True)
    series[name], bands[name] = mean, (low, high)
labels = ("到窗口的第几个字符为止", "损失之差（奈特/字符）")
title = "从两层到四层的收益，从第五个字符起最大"
figures.lines(places, series, *labels, log_x=True, bands=bands, title=title, note=note)

# %% [markdown] english="1706d7e5"
# 从两层增加到四层，在最前面四个字符上的收益，不到后面位置上的三分之一。所以在这个方案里，增加层数换来的是：**每一步学得更多**；到训练结束时，从两层增加到四层，**在前面至少有五个字符的位置上，损失更低**。
#
# ## 同一个学习率，公平吗？
#
# 原始方案的学习率，并没有针对任何一种深度挑选过。下面逐个试一系列学习率（两个种子），训练步数固定，每次训练中学习率逐渐下降。
#
# > **先猜。** 深的模型需要更高的学习率，还是更低的？

# %%
rates = tables.rate_table(recorded.load("rates"))
figures.rate_sweep(rates, note=note)

# %%
by_rate = rates.pivot(index="learning_rate", columns="n_layers", values="choosing_loss")
for rate in (0.0003, 0.0024, 0.0096):
    print(f"学习率 {rate}：12 层 - 4 层 = {by_rate.loc[rate, 12] - by_rate.loc[rate, 4]:+.3f}")

# %% [markdown] english="7731e590"
# 都不是，至少在这组逐次加倍的取值上：从 2 层到 12 层，最好的都是 0.0024，远高于原始方案的 0.0001。但学习率太低时，深的模型占便宜；太高时，深的模型又训练不好：如果所有模型共用一个远离最佳值的学习率，这样的“深度实验”测的其实是学习率。
#
# 公平的实验先用几个种子为每个组选学习率，再用新的种子来比较。在什么条件下比较，就是一种**比较方式**（frame）：原始方案（plain）；公平学习率（fair rate）；公平学习率加提前停止（early stopping）；参数量相同（equal parameters，把浅的模型加宽）；时间相同（equal time，浅的模型多训练一些步）。各用六个种子。
#
# > **先猜。** 在哪些比较方式里，六层会领先四层？

# %%
frames = {"原始方案": "depth", "公平学习率": "depth-fair", "提前停止": "depth-stopping"}
frames |= {"参数量相同": "depth-parameters", "时间相同": "depth-time"}
of_depth = {
    frame: sorted(recorded.load(name), key=lambda r: r.model["n_layers"])
    for frame, name in frames.items()
}
verdicts = comparisons.in_frames(of_depth)
title = "增加层数的影响，按比较方式列出（后一半）"
figures.effect_ranking(verdicts.assign(arm=verdicts["name"]), title=title, note=note)


# %%
def intervals(low, high):
    return [f"{a:+.3f} 到 {b:+.3f}" for a, b in zip(low, high, strict=True)]


both = pd.DataFrame(index=pd.Index(verdicts["name"], name="比较"))
both["后一半"] = intervals(verdicts["low"], verdicts["high"])
both["p，Holm 校正"] = verdicts["p_holm"].map("{:.2g}".format).values
both["整个验证集"] = intervals(verdicts["whole_low"], verdicts["whole_high"])
both["p，Holm 校正，整个验证集"] = verdicts["whole_p_holm"].map("{:.2g}".format).values
both

# %% [markdown] english="0081ae08"
# 图中实心的标记，通过了 **Holm 校正**（Holm's correction）：一共 13 个问题，其中可能有几个只是碰巧显得有差异，所以最小的 p 值（t 检验的 p：用 1 减去区间恰好碰到 0 时的置信度）要乘以 13，下一个乘以 12，依此类推。校正之后（p < 0.05）：
#
# * **四层胜过两层**：在后一半上，三种比较方式里如此；在整个验证集上，四种里如此。
# * **六层对四层**：在整个验证集上，差异在两种比较方式里是明显的：公平学习率下六层更好，时间相同时六层*更差*。在原来计划用的后一半上，两种都看不出差异。
# * 所以**结论取决于比较方式，也取决于在哪段文本上测量**（[实验结果](../../book/zh/results.md)）。
#
# （下面最后两行比较的是两种比较方式里的运行，所以不配对：用 *Welch* 的区间。）

# %%
for frame, runs in of_depth.items():
    means = tables.final_table(runs).groupby("n_layers")[["validation_loss", "best_step"]].mean()
    row = [f"{n} 层：{m.validation_loss:.3f}，{m.best_step:,.0f} 步" for n, m in means.iterrows()]
    print(f"{frame:17} {' · '.join(row)}")
for asked, loss in (("整个验证集", "validation_loss"), ("后一半", "reporting_loss")):
    two = comparisons.losses_of(of_depth["时间相同"], loss)["2 layers, 3020 steps"].values()
    six = comparisons.losses_of(of_depth["公平学习率"], loss)["6 layers"].values()
    apart = stats.ttest_ind([*two], [*six], equal_var=False).confidence_interval()
    gap = f"{apart.low:+.3f} 到 {apart.high:+.3f}"
    print(f"2 层 3,020 步 - 6 层 1,200 步，{asked}：{gap}")

# %% [markdown] english="a1cec1e6"
# 在整个验证集上，训练更久的两层胜过 1,200 步之后的六层；在后一半上则没有。在原始方案的实验里，深度换来的是每一步学得更快，代价是更多的时间。如果一直训练下去，深的模型损失最终也会更低吗？这些比较方式回答不了。
#
# 下一项实验最多训练到 2,400 步，学习率逐渐下降，并且为每种深度、每种训练步数分别选定；报告则用另外八个种子，以及**八部完整的剧本，课程里选学习率时从没用过它们**。
#
# > **先猜。** 每种训练步数一条线：随着深度增加，哪些下降，哪些上升，哪些有降有升？

# %%
rows = []
for steps in (300, 600, 1200, 2400):
    learned = []
    for n_layers in (1, 2, 4, 6, 8, 12):
        runs = [r for r in recorded.load(f"depth-{steps}") if r.model["n_layers"] == n_layers]
        low, mean, high = interval([r.untouched_loss for r in runs])
        rows.append((f"{steps:,} 步", n_layers, mean, low, high))
        learned.append(f"{interval([r.training_loss for r in runs])[1]:.2f}")
by_length = pd.DataFrame(rows, columns=["frame", "n_layers", "loss", "low", "high"])
title = "未见剧本上的损失，随深度和训练步数的变化"
print(f"2,400 步时的训练损失：{', '.join(learned)}（1 到 12 层）")
label = "未见剧本上的损失（奈特/字符）"
figures.depth_in_frames(by_length, title=title, loss=label, note=note)

# %% [markdown] english="39a6033b"
# 只问深度，没有单一的答案；**先定下训练步数，再问深度**，才有一个适用范围较窄的答案。300 步时，四层比两层差（与原始方案的实验不同；为什么，我们说不出）；600 步时，看不出哪种深度胜过两层。1,200 步时，模型越深，平均损失越低，直到最深的那种都是如此。2,400 步时，四层和六层之间看不出差异；八层和十二层更差，而训练损失却是十二层最低（这两种深度的学习率是重新选的，是其他深度的两倍）。
#
# ## 配对有用吗？
#
# 如果种子带来的随机影响是各组共有的，各组的损失就会一起升降（用相关系数 *r* 衡量），差异也就比两个均值更确定。
#
# > **先猜。** r 更接近 0，还是更接近 1？

# %%
widths = []
for rs in of_depth.values():
    losses = {arm: [*of.values()] for arm, of in comparisons.losses_of(rs).items()}
    for one, two in itertools.pairwise(losses.values()):
        apart = stats.ttest_ind(two, one, equal_var=False).confidence_interval()  # Welch's
        low, _, high = interval([b - a for a, b in zip(one, two, strict=True)])
        widths.append((high - low) / (apart.high - apart.low))
r = verdicts["r"]
print(f"r：{r.min():.2f} 到 {r.max():.2f}，{len(r)} 次比较的均值 {r.mean():.2f}")
wider = sum(width > 1 for width in widths)
print(f"配对的区间在 {wider} 次比较里更宽，平均是不配对的 {sum(widths) / len(widths):.2f} 倍")

# %% [markdown] english="a01b49f3"
# 平均接近 0：配对在这里没有带来好处，反而略有坏处。如果连*训练文本*也由种子来抽取，配对是有收益的（[实验结果](../../book/zh/results.md)）。
#
# **我们本来能看出多大的差异？** 设想六对种子，差异的标准差和这里一样，而且真有差异。有多大机会发现它？

# %%
half_width = (verdicts["high"] - verdicts["low"]).median() / 2
t = stats.t.ppf(0.975, 5)
spread = half_width * 6**0.5 / t
print(f"配对差异的标准差是 {spread:.3f}")
for true in (0.01, 0.02, 0.03):
    pretended = true + spread * draws[:, :6]
    scores = pretended.mean(1) / (pretended.std(1) / 6**0.5)
    print(f"真实的差异为 {true} 时，{(scores.abs() > t).float().mean():.0%} 的实验能发现它")

# %% [markdown] english="7bce3446"
# 就算真有 0.02 的差异，也完全可能看不出来：*看不出差异*从来不等于“没有差异”。
#
# ## 你自己的实验组
#
# 下面做一项尽可能短、但还有意义的实验：两层，很少的步数（双核 CPU 约需一分钟）。
#
# > **先猜。** 四种位置编码，名次如何？

# %% tags=["nbval-ignore-output"]
short = {"n_layers": 2, "steps": max(1, steps // 12), "evaluate_every": 0, "decay": 0.0}
kinds = ("none", "learned", "sinusoidal", "rope")
arms = {kind: {"position": kind, **short} for kind in kinds}
question = "训练很少几步之后，哪种位置编码领先？"
own = studies.records(studies.Study("position-short", question, arms), text, seeds=1)
losses = {r.arm: r.validation_loss for r in own}
pd.Series(losses, name="奈特/字符，一个种子").sort_values().round(3)

# %% [markdown] english="2158fc2b"
# 一个种子，很少的步数：这只是线索。第 3 讲的每项选择，都有一项对应的实验（`course ablate position` 做的是位置编码那一项）：

# %%
for one in studies.CHOICES:
    print(f"{one.name:10} {one.question} {', '.join(one.arms)}")

# %% [markdown] english="0e93d548"
# ## 逐项检验其他选择
#
# 每次只改一处，六个种子，800 步，从 modern 训练配方出发（旋转位置编码、QK-norm、Muon，dropout 0.2，4 个头，上下文 1,024）。各组读的字符数相同：*批次 ×2* 只训练一半的步数。
#
# > **先猜。** 给这四项改动排个名次：没有残差连接，用 AdamW 代替 Muon，用 ReLU 代替 GELU，没有位置编码。

# %%
modern = recorded.whole(recorded.load("choices-modern"), seeds=6)
ranked = comparisons.against(modern)
figures.effect_ranking(comparisons.tasks_marked(ranked), note=note)

# %%
# p is that of the paired t test: with six seeds sign flips can't go below 2 / 2**6
control = ranked.set_index("arm").loc["unchanged, other seeds"]
assert control["low"] < 0 < control["high"], "同一个组做两次：0 应当在区间里"
small, clear = (ranked["p"] < 0.05).sum(), ranked["clear"].sum()
print(f"{len(ranked)} 个组；p < 0.05 的有 {small} 个，校正之后还有 {clear} 个")

# %%
fair = comparisons.against(recorded.whole(recorded.load("choices-fair"), seeds=6))
for recipe, table in (("modern", ranked), ("baseline（公平学习率）", fair)):
    row = table.set_index("arm").loc["no positions"]
    cost = f"{row['difference']:+.3f}（{row['low']:+.3f} 到 {row['high']:+.3f}）"
    print(f"训练配方 {recipe}，去掉位置编码：{cost}")

# %% [markdown] english="ae52002d"
# 在这里，影响最大的莫过于去掉残差连接；其次是没有位置编码，或者用可学习的位置编码；再次是几种过头的设置：dropout 丢掉一半，批次放大到四倍。有改进的是：调低 dropout，或者用更小的批次、更多的步数。（*另一任务*：上下文长度不同，损失不能相互比较。）
#
# 要留意的是：只有参照组（不作改动的那一组）的学习率是调过的；而且从 baseline 的模型出发，*没有位置编码*的代价小得多（[实验结果](../../book/zh/results.md)）。modern 训练配方和 `laptop` 又都是在这同一个验证集上选出来的，所以它们的损失偏乐观。

# %% [markdown] english="a315899c"
# 从[实验结果](../../book/zh/results.md)里挑一句话，试着推翻它：记录就在软件包里。
#
# ## 本讲小结
#
# 你做了一项完整的实验：先写明要问什么；报告差异，也报告它有多不确定；也清楚这项实验看不出什么。
#
# ## 思考
#
# **1.** 什么情况下，差异的区间，会比由两个组各自的区间推想的更窄？
#
# <details><summary>答案</summary>
#
# 各组的损失随种子一起升降时（r 明显大于 0）。r 接近 0 时，它甚至还略宽一些，因为 n 对差异的自由度，比两组各 n 个损失的自由度更少。 </details>
#
# **2.** 在你的实验里，各组的步数相同。如果改成*秒数*相同，谁会占便宜？
#
# <details><summary>答案</summary>
#
# 浅的模型，它们每秒能训练更多步：时间相同时，六层就不再领先了。 </details>
#
# **3.** 有人试了 20 个组，每组一个种子，然后报告最好的。问题出在哪里？
#
# <details><summary>答案</summary>
#
# 它最好，部分原因只是碰巧。要用新的种子再跑一次，才能知道。 </details>

# %% [markdown] english="fc2d655d"
# ## 练习
#
# 补全每个代码骨架，再运行该单元格；答案折叠着。

# %% [markdown] english="f66a8c26"
# ### 练习 5.1 · 热身 · 10 分钟
#
# 一项虚构的实验：六个配对种子，一套训练配方，一种预算。4 层对 2 层得到 −0.042（95% 区间 −0.057 到 −0.026），6 层对 4 层得到 −0.007（−0.022 到 +0.008）。六句结论里，哪几句说过头了？
#
# <details><summary>提示 1</summary>
#
# 有两句与区间的含义一致。 </details>
#
# <details><summary>提示 2</summary>
#
# 说过头的有：把看不出差异说成相等，给某一个区间安上概率，断言原因，推广到别的预算。 </details>

# %%
for letter, sentence in checks.sizes("5.1").items():
    print(f"({letter}) {sentence}")

# %% tags=["exercise"]
too_much = None  # such as {"a", "b"}

checks.check("5.1", too_much)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
fine = ("预测得更准", "看不出差异")
too_much = {
    letter
    for letter, sentence in checks.sizes("5.1").items()
    if not any(words in sentence for words in fine)
}

checks.check("5.1", too_much, quiet=True)

# %% [markdown] english="1ffcff09"
# ### 练习 5.2 · 核心 · 15 分钟
#
# *看不出差异*不等于*相等*。要说相等，平均差异的整个 90% 区间必须落在 ±`bound` 之内，这个界限要在实验之前定好（Schuirmann，1987）。函数返回这个条件是否成立；`t` 已经给出。然后拿*原始方案：6 层对 4 层*练练手，界限取 0.02（`comparisons.losses_of(depth)` 给出 `{arm: {seed: loss}}`）。
#
# <details><summary>提示 1</summary>
#
# 除了 `t`，需要的东西 `interval` 里都有。 </details>
#
# <details><summary>提示 2</summary>
#
# 0 在不在区间里并不要紧：一个差异可以很确定，*同时*又小得不值得在意。 </details>


# %% tags=["exercise"]
def equal_within(differences, bound, t):
    """differences: n >= 2 numbers, one a seed -> bool"""
    ...


checks.check("5.2", equal_within)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def equal_within(differences, bound, t):
    d = torch.tensor(differences, dtype=torch.float64)
    half = t * d.std() / len(d) ** 0.5
    return bool(-bound < d.mean() - half and d.mean() + half < bound)


checks.check("5.2", equal_within, quiet=True)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
losses = comparisons.losses_of(depth)
gaps = [losses["6 layers"][seed] - losses["4 layers"][seed] for seed in range(6)]
print(equal_within(gaps, 0.02, stats.t.ppf(0.95, 5)))

# %% [markdown] english="43f9acb6"
# ### 练习 5.3 · 核心 · 15 分钟
#
# 求配对的 $t$ 区间，`t` 已经给出。差异是 `losses` 减 `others`；返回区间的下限、差异的均值和区间的上限。两边种子的顺序可以不同。
#
# <details><summary>提示 1</summary>
#
# 先求六个差异，每个种子一个。 </details>
#
# <details><summary>提示 2</summary>
#
# 均值 ± $t$ × 差异的标准差（计算时除以 $n - 1$）÷ $\sqrt n$。 </details>


# %% tags=["exercise"]
def paired_interval(losses, others, t):
    """losses, others: dicts, seed -> nats/character -> (low, mean, high)"""
    ...


checks.check("5.3", paired_interval)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def paired_interval(losses, others, t):
    pairs = [losses[seed] - others[seed] for seed in losses]
    differences = torch.tensor(pairs, dtype=torch.float64)
    mean, spread = differences.mean().item(), differences.std().item()
    half = t * spread / len(pairs) ** 0.5
    return mean - half, mean, mean + half


checks.check("5.3", paired_interval, quiet=True)

# %% [markdown] english="201bbf48"
# ### 练习 5.4 · 核心 · 20 分钟
#
# 七个组里，单凭偶然也可能有一个达到 $p < 0.05$。Holm（1979）的办法是：把 $m$ 个 p 值中最小的乘以 $m$，下一个乘以 $m - 1$，依此类推；哪个都不能小于前一个，也不能大于 1。按原来的顺序返回它们。
#
# <details><summary>提示 1</summary>
#
# 沿着排好序的 p 值依次计算，随时记住到目前为止的最大值。 </details>
#
# <details><summary>提示 2</summary>
#
# `sorted(range(m), key=p_values.__getitem__)` 给出位置：把每个结果写回原来的地方。 </details>


# %% tags=["exercise"]
def holm(p_values):
    """m p-values -> m adjusted ones; those up to 0.05 may be called differences"""
    ...


checks.check("5.4", holm)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def holm(p_values):
    m, largest, adjusted = len(p_values), 0.0, [0.0] * len(p_values)
    for rank, i in enumerate(sorted(range(m), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (m - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


checks.check("5.4", holm, quiet=True)

# %% [markdown] english="b06a213a"
# ### 练习 5.5 · 挑战 · 30 分钟
#
# 二十个组其实相同，最好的那个看上去却更好：好了多少？给你许多次模拟实验的损失。先在每个组内对种子求均值，再看每次实验里最好的组比全部组的平均低多少，最后对各次实验取平均，返回这个数。
#
# <details><summary>提示 1</summary>
#
# 依次做：对种子求均值；每次实验里取最低的；对各次实验求均值。 </details>
#
# <details><summary>提示 2</summary>
#
# `means = losses.mean(2)` 的形状是（trials, arms）。`min` 该沿哪个轴取？ </details>


# %% tags=["exercise"]
def seeming_gain(losses):
    """losses: (trials, arms, seeds) -> float, nats/character"""
    ...


checks.check("5.5", seeming_gain)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def seeming_gain(losses):
    means = losses.mean(2)
    return (means.mean(1) - means.min(1).values).mean().item()


checks.check("5.5", seeming_gain, quiet=True)

# %% [markdown] english="ffaa9a27"
# ### 练习 5.6 · 挑战 · 120 分钟
#
# 用某段文本选出学习率，再在同一段文本上测量，损失就会偏乐观。请用留出文本的一半为每个组选学习率，再报告它在另一半上的损失（20 分钟）。
#
# 余下的部分可以留到一个晚上去做：训练 2 层和 6 层，学习率各取四个（`studies.Study`、`recipe="fair"`），再用第 4 讲的 `evaluate` 分别在两半上评估（`course_utils.training` 里的 `checkpoints.load_model(record.checkpoint)` 给出模型和分词器）。在用来报告的那一半上，选定的学习率的损失，比这一半上各个学习率中最低的损失高多少？

# %% [markdown] english="e8b02034"
# <details><summary>提示 1</summary>
#
# `min(row, key=row.get)` 就是损失最低的学习率。 </details>
#
# <details><summary>提示 2</summary>
#
# 按位置切开文本；各组只在同一半之内比较。 </details>


# %% tags=["exercise"]
def honest_losses(choosing, reporting):
    """Both: arm -> {learning rate: loss}, one a half -> arm -> (learning rate, loss)"""
    ...


checks.check("5.6", honest_losses)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def honest_losses(choosing, reporting):
    best = {arm: min(row, key=row.get) for arm, row in choosing.items()}
    return {arm: (rate, reporting[arm][rate]) for arm, rate in best.items()}


checks.check("5.6", honest_losses, quiet=True)

# %% [markdown] english="96aef618"
# ## 自测
#
# **1. 三个配对差异：+5、+3、−1。符号翻转检验的 p 值是……** (a) 1/8 · (b) 1/4 · (c) 1/2
#
# <details><summary>答案</summary>
#
# **(c)** 八种翻转里，±(5 + 3 − 1) 和 ±(5 + 3 + 1) 都至少同样极端：共四种。(a) 只数了实际观测到的那一种；(b) 忘了 ±9。 </details>

# %% [markdown] english="261466f2"
# **2. 差异的 95% 区间是 −0.02 到 +0.01。所以……** (a) 两个组相等 · (b) 看不出差异 · (c) 第一个组更好，概率是 95%
#
# <details><summary>答案</summary>
#
# **(b)** (a)：−0.02 仍有可能。(c)：95% 说的是求区间的方法有多可靠，不是这个组更好的概率。 </details>

# %% [markdown] english="b7849d86"
# **3. 种子已经很多时，怎样让区间的宽度减半？** (a) 种子增加到两倍 · (b) 增加到四倍 · (c) 多少种子都办不到
#
# <details><summary>答案</summary>
#
# **(b)** 误差随 $\sqrt n$ 下降。如果随 $n$ 下降，(a) 才对。 </details>

# %% [markdown] english="215de754"
# **4. 为什么各组要用同样的种子？** (a) 结果可以重复 · (b) 共有的随机影响会从差异里消去 · (c) 求一个均值所需的运行更少
#
# <details><summary>答案</summary>
#
# **(b)**，前提是有这样的影响：这里几乎没有。(a) 只要固定种子就成立，各组的种子不同也行。 </details>

# %% [markdown] english="9fb90c47"
# **5. 二十个组，每组一个种子；最好的比基线低 0.02。下一步呢？** (a) 发表 · (b) 用新种子把这两个再跑一次 · (c) 全部再跑一遍，取最好的
#
# <details><summary>答案</summary>
#
# **(b)** 新种子没有参与挑选。(a) 报告的只是碰巧的结果。(c) 又凭碰巧挑了一次。 </details>

# %% [markdown] english="c0be428f"
# **下一讲**：[6 · 采样](06_sampling.ipynb)，用训练好的模型写文本。
