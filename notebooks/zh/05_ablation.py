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

# %% [markdown] english="9f20aa7b"
# # 5 · 消融实验：层数有什么用？
#
# 模型更深就更好吗？每种深度训练一个，总会有一个胜出，但这还不是答案：换一个种子，名次可能就倒过来。这一讲要得出站得住脚的答案：用几个种子，给出*差异*的区间，结论不超出数字所能支持的范围。你会看到，最初的答案取决于实验方案，也取决于在哪段文本上测量。

# %% [markdown] english="1ad3ac98"
# **你将学会**：设计配对比较 · 算出区间，并说清它的含义 · 公平地选学习率 · 看出增加深度在哪里、什么时候有收益 · 比较许多实验组，而不被偶然的结果误导 · 不写新代码，就给一项实验加一个实验组。
#
# **预备知识**：[第 4 讲](04_train.ipynb)、[二十行 PyTorch](../../book/zh/pytorch.md)、均值和标准差；**时间**：阅读约 50 分钟；如果已有运行结果（你自己用 `course run` 得到的，或者公布的），运行代码约半分钟，否则最多十五分钟。

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

# 图、表和提示都用中文。
import os

os.environ.setdefault("COURSE_LANGUAGE", "zh")

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

# %% [markdown] english="739c3d77"
# ## 先把问题写下来
#
# 在代码里，一项**实验**（study）就是一份数据：一个问题，再加几个*实验组*（arm），各组只在同一训练配方的几项设置上不同。这里的各组有 2、4、6 层；其余全都相同，步数也相同。同一个**种子**（seed）给三个组定下同样的批次，所以这些运行是*配对*的：如果批次碰巧抽得好，三个组可能都受益。配对到底有没有好处，后面会测量。

# %%
study = studies.STUDIES["depth"]
print(study.question, study.arms)

# %% [markdown] english="b6715629"
# ## 运行
#
# 如果已有你自己的运行结果，就用你的；没有，就用公布的；还缺的，现在训练。
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

# %% [markdown] english="13c74169"
# 每条线是一个种子。我们想知道的不是线有多低，而是线有多陡，也就是*差异*。各种深度付出的代价，见下表：

# %% tags=["nbval-ignore-output"]
arms = tables.arm_table(final)
costs = ["parameters", "elapsed_s", "training_loss", "validation_loss", "perplexity"]
arms.set_index("arm")[costs].round(3).astype(object).T

# %% [markdown] english="b3edf0a4"
# `elapsed_s` 是一次运行所用的秒数。每增加两层，多出的参数量和时间都与最初的两层相当。
#
# ## 有多大把握？
#
# 两个实验组之间的差异，每个种子给出一个。如果深度毫无作用，两个组互换名字也无妨：差异是 $+d$ 还是 $-d$，可能性一样大。那就枚举翻转正负号的所有方式，数一数有多少种得到的均值，至少与实际观测到的均值一样极端。这个比例就是**符号翻转检验**（sign-flip test）的 p 值（Fisher，1935）；它不要求差异服从正态分布。


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

# %% [markdown] english="d3245387"
# 三个种子就算方向完全一致，也只得到 p = 0.25：种子太少，说明不了问题。至少要六个种子，才能达到通常的 0.05，而且只够检验*一个*问题。（n 个都朝一个方向时，2ⁿ 种翻转里只有两种同样极端：p = 2/2ⁿ。像下文那样同时检验十三个问题，就要求 p 低于 0.05/13，也就是要十个种子；原因见下文的 *Holm 校正*。）所以种子少的实验，用的是假定更多的检验：如果差异服从正态分布，就可以用 **t 分布**（Student's t）求出区间。取 n 个差异的均值，减去真实的均值，再除以标准误，即差异的分散程度 ÷ √n：得到的数就是 *t*。对每个 n，t 的分布都是已知的；n = 3 时，所有 t 里有 95% 落在 −4.3 和 4.3 之间。所以 100 次实验里有 95 次，真实的均值与求得的均值相差不超过 4.3 个标准误：这就是区间。从这里起，每个结论都用它，代码只有六行：


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


# %% [markdown] english="534b8be2"
# > **先猜。** 先只用三个种子里的两个，再用全部三个。区间会窄多少？

# %% tags=["nbval-ignore-output"]
for seeds in (2, 3):
    for deeper, shallower in (("4 layers", "2 layers"), ("6 layers", "4 layers")):
        differences = (by_arm[deeper] - by_arm[shallower]).head(seeds)
        low, mean, high = interval(differences.tolist())
        print(f"{seeds} 个种子，{deeper} - {shallower}：{mean:+.3f}（{low:+.3f} 到 {high:+.3f}）")

# %% [markdown] english="0d64d7b5"
# 注意只用两个种子时区间的宽度：一个是另一个的两倍多，单凭偶然就能这样。两个值的**分散程度**（spread，即标准差，平方和要除以 $n - 1$）本身就很不稳定，t 会为此留出余量。余量有多大，见下表：

# %%
draws = torch.randn(100_000, 8, generator=torch.Generator().manual_seed(0))
rows = {}
for n in (2, 3, 6, 8):
    low, high = draws[:, :n].std(1).quantile(torch.tensor([0.05, 0.95])).tolist()
    t = stats.t.ppf(0.975, n - 1)
    rows[n] = {"t": t, "半宽（分散程度的倍数）": t / n**0.5}
    rows[n]["十次里有九次，算出的分散程度是"] = f"真实值的 {low:.2f}～{high:.2f} 倍"
pd.DataFrame(rows).T.rename_axis("种子数").infer_objects().round(2)

# %% [markdown] english="d8a923dd"
# 由两个种子算出的分散程度，可能只有真实值的十六分之一，也可能是真实值的两倍，所以 t 是 12.7；有了第三个种子，区间平均缩小到不足三分之一。置信度的含义是：这样求出的区间，100 次实验里有 95 次包含真实的平均差异；眼前这次是不是其中之一，谁也不知道。如果区间不含 0，就有充分的依据认为：在*这套训练配方、这个预算下*，换用新的种子，差异仍是这个方向；至于更长的训练、别的宽度或别的文本，区间说明不了什么。
#
# ## 六个种子，一块 GPU
#
# 软件包里带着一项**已记录的实验**（recorded study）：第 3 讲的基线模型（baseline），2、4、6 层，每种六个种子，用的是原始方案：学习率恒为 1e-4（学过第 4 讲，你可能会觉得太低；我们也这样认为，后面再谈），连续五次评估没有改进就结束。保留哪一步的模型，由验证集的*前*一半决定；而一段文本用来做过选择，在它上面测出的损失就会偏乐观，所以结论只看*后*一半。（后一半更难，损失要高十分之一奈特以上：只能在同一半之内比较。）
#
# > **先猜。** 哪个差距会明显不为零？哪种深度的模型最先停下？

# %%
depth = recorded.load("depth")
note = text.note and depth[0].corpus["name"]
second_half = "reporting_loss"  # of the validation split
for comparison in comparisons.adjacent(depth, second_half):
    print(comparison.verdict)
columns = ["best_step", "training_loss", "validation_loss"]
tables.final_table(depth).groupby("arm", sort=False)[columns].mean().round(3)

# %% [markdown] english="1b1d1a55"
# 从两层增加到四层，损失降低了（值不值得付出这样的代价，等到“时间相等”的比较方式再看）；从四层再增加到六层，六个种子看不出变化。四层和六层的损失已经低于第 1 讲的那条线（Kneser–Ney，1.517），这里的两层没有；你那九次短的运行也没有。（`validation_loss` 是在整个验证集上算的，所以表里的差异和结论里的差异，最后几位不完全相同。）表里还可以看到，各组停下的步数很不一样。所以别只看终点，也看看训练的过程（每条曲线的名字和数字，标在六个种子都到达的最后一步）：

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

# %% [markdown] english="375e1314"
# **模型越深，每一步学得越快。** 步数相同时，六层领先四层，除最后一行外都很明显；从 2,440 步起，领先的幅度在缩小。而上面的结论比较的，是各次运行提前停止时的模型：各种深度停下的步数不同，六个种子看不出谁领先。
#
# ## 在文本的哪些位置有收益
#
# 每条记录还存着窗口里各个位置的损失：第一个位置，只凭一个字符来猜；第二个位置；然后是第 3 和第 4 个，第 5 到第 8 个，依此类推，每一段的长度加倍。
#
# > **先猜。** 再加两层，收益更大的是窗口开头附近，还是窗口里靠后的位置？

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
title = "从两层到四层的收益，主要在第五个字符以后"
figures.lines(places, series, *labels, log_x=True, bands=bands, title=title, note=note)

# %% [markdown] english="ad44ae50"
# 色带是六个种子的 95% 区间。从两层增加到四层，在窗口最前面四个字符上的收益，不到后面的三分之一；大部分收益来自第五个字符以后，而第 1 讲的统计模型也正是从那里开始例子不够用。所以在这个方案里，*层数有什么用*的答案是：**每一步学得更多**；到训练结束时，从两层增加到四层，**前面至少有五个字符的位置，损失更低**。（从四层增加到六层，看不到这样的收益。）
#
# ## 同一个学习率，公平吗？
#
# 各种深度用的都是同一个学习率，而它并不是为其中任何一种选的。每种深度最适合的学习率各是多少？下面把一系列学习率逐个试一遍，方案也换了：步数固定，有预热，学习率一直降到结束，没有提前停止。
#
# > **先猜。** 深的模型需要更高的学习率，还是更低的？

# %%
rates = tables.rate_table(recorded.load("rates"))
figures.rate_sweep(rates, note=note)

# %%
by_rate = rates.pivot(index="learning_rate", columns="n_layers", values="choosing_loss")
for rate in (0.0003, 0.0024, 0.0096):
    print(f"学习率 {rate}：12 层 - 4 层 = {by_rate.loc[rate, 12] - by_rate.loc[rate, 4]:+.3f}")

# %% [markdown] english="83e1c13a"
# 都不是，至少在这组逐次加倍的取值上：从 2 层到 12 层，最好的都是 0.0024（图上的 2.4），远高于第一项实验的 0.0001。但如果各种深度固定用同一个学习率，关于深度的结论就会被它左右：学习率太低，深的模型占便宜；太高，深的模型训练不好。如果所有模型共用一个远离最佳值的学习率，这样的“深度实验”测的其实是学习率。
#
# 公平的实验分两步：先用不参与报告的种子（这里是两个）为每个组选学习率，再用新的种子来比较。在什么条件下比较，就是一种**比较方式**（frame）。这里记录了五种：原始方案（plain）；公平的学习率（fair rate），一律 1,200 步；原始方案的提前停止，配公平的学习率（early stopping）；参数量相等（equal parameters，把浅的模型加宽）；在同一块 GPU 上时间相等（equal time，浅的模型多训练一些步）。
#
# > **先猜。** 在哪些比较方式里，六层会领先四层？

# %%
frames = {"plain": "depth", "fair rate": "depth-fair", "early stopping": "depth-stopping"}
frames |= {"equal parameters": "depth-parameters", "equal time": "depth-time"}
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

# %% [markdown] english="58f53b53"
# *p* 现在是 t 检验的 p 值，即 1 − 区间仍不含 0 的最大置信度。实心标记通过了 **Holm 校正**（Holm's correction）：同时检验 13 个问题，总有几个碰巧显得好看，所以最小的 p 要乘以 13，下一个乘以 12，依此类推（练习 5.4）。表里的差异在两段文本上测量：一段只用后一半，另一段是整个验证集，长一倍。该以哪个为准？在提前停止的两种比较方式里，即*原始方案*和*提前停止*，这些运行保留哪一步，正是由前一半选的：所以以后一半为准。在另外三种里，前一半没有参与这些运行的任何选择（选学习率时用过，但用的是别的种子）：所以整个验证集更准确。（在*提前停止*里，六层的学习率 0.0024 在两个种子上比 0.0012 领先 0.006 奈特；换成另一个，这一行也许会不一样。而且这条规则是看过两段文本上的结果之后才定的；原来的计划是后一半。）以 Holm 校正后 p < 0.05 为标准：
#
# * **四层胜过两层**：原始方案、公平的学习率、参数量相等时都是如此，在哪段文本上测量都成立。公平的学习率加提前停止，还没有定论（只在整个验证集上达到标准）；时间相等时，在两段文本上都达不到。（公平的学习率下还试过一层：两层胜过它。）
# * **六层对四层**：在整个验证集上，有两种比较方式差异明显，方向却相反：公平的学习率下六层更好，时间相等时六层*更差*。在后一半上，两种都看不出差异。
# * 所以**结论取决于比较方式，也取决于在哪段文本上测量**。
#
# 每个模型又训练到了什么程度？（最后一行比较的两个组来自不同的比较方式，事先没有计划把它们放在一起比较：*Welch* 的区间用两组各自的分散程度，比较两个均值。负数对 2 层有利。）

# %%
for frame, runs in of_depth.items():
    means = tables.final_table(runs).groupby("n_layers")[["validation_loss", "best_step"]].mean()
    row = [f"{n} 层：{m.validation_loss:.3f}，{m.best_step:,.0f} 步" for n, m in means.iterrows()]
    print(f"{frame:17} {' · '.join(row)}")
two = comparisons.losses_of(of_depth["equal time"], "validation_loss")["2 layers, 3020 steps"]
six = comparisons.losses_of(of_depth["fair rate"], "validation_loss")["6 layers"]
apart = stats.ttest_ind([*two.values()], [*six.values()], equal_var=False).confidence_interval()
print(f"2 层 3,020 步，对 6 层 1,200 步：{apart.low:+.3f} 到 {apart.high:+.3f}")

# %% [markdown] english="e2df869e"
# 在整个验证集上，训练更久的两层胜过 1,200 步之后的六层。（在后一半上看不出差异；在下面的新剧本上，训练 2,400 步的两层还落后。）所以如实的总结是：*在 1,200 步以及再多几千步之后，深度换来每一步学得更快，代价是更多的时间；它能不能让损失最终降得更低，这些比较方式回答不了*。因为没有哪种比较方式，让每种深度都既有下降的学习率，又有很长的训练。
#
# 所以，接下来该做的就是这样的实验：600、1,200 和 2,400 步（300 步是看过初步结果之后加的），学习率最后都降下来，并按每种深度和每种长度分别选定，再用八个种子来报告。报告用的是新的文本：**八部完整的剧本，课程里没有一个学习率是用它们选的**，从 *Hamlet* 到 *Twelfth Night*。
#
# > **先猜。** 每种长度一条线，看损失随深度怎样变化。哪些线下降，哪些上升，哪些先降后升？

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
title = "新剧本上的损失，随深度和训练长度的变化"
print(f"2,400 步时的训练损失：{', '.join(learned)}（1 到 12 层）")
label = "未见剧本上的损失（奈特/字符）"
figures.depth_in_frames(by_length, title=title, loss=label, note=note)

# %% [markdown] english="04091a01"
# 所以只问深度，没有答案；**给定训练的长度，再问深度**，才有一个范围较窄的答案。300 步时，一层和两层之间看不出差异，四层和六层更差。1,200 步时，平均损失一直降到最深的模型，只是降幅越来越小（从八层到十二层这一段，不明显）。2,400 步相当于把文本读了二十遍，这时四层和六层之间看不出差异；八层和十二层用的是为它们选出的较高的学习率，结果更差，而训练文本上的损失，却是十二层最低。600 步的几个点靠得太近，说不出哪个最好。（[实验结果](../../book/zh/results.md)页对每一段都做了检验。）
#
# ## 配对有用吗？
#
# 如果种子带来的随机影响是各组共有的，配对就有用：这时两个组的损失随种子一起升降，它们的差异就比两个均值更确定。一起升降到什么程度，用相关系数 *r* 表示。
#
# > **先猜。** *r* 更接近 0，还是更接近 1？

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
print(f"配对的区间在 {wider} 次比较里更宽，平均是另一个的 {sum(widths) / len(widths):.2f} 倍")

# %% [markdown] english="e70f2091"
# 接近 0：配对在这里没有带来好处，还略有损失。六对只留下五个自由度，两组各六个，则最多有十个。（各组共有的随机影响为什么这样小，我们只能猜测：几百步之后，每个模型的训练就各走各的路了。）我们保留配对的结论，因为计划就是这样定的。如果种子只决定批次和权重，下一项实验不必配对；如果*文本*也由种子抽取，配对能让区间窄五分之二（[实验结果](../../book/zh/results.md)）。
#
# **我们本来能看出多大的差异？** 取六对种子，差异的分散程度和这里一样，再假设真有某个大小的差异。有多大机会发现它？

# %%
half_width = (verdicts["high"] - verdicts["low"]).median() / 2
t = stats.t.ppf(0.975, 5)
spread = half_width * 6**0.5 / t
print(f"配对差异的分散程度是 {spread:.3f}")
for true in (0.01, 0.02, 0.03):
    pretended = true + spread * draws[:, :6]
    scores = pretended.mean(1) / (pretended.std(1) / 6**0.5)
    print(f"真实的差异为 {true} 时，{(scores.abs() > t).float().mean():.0%} 的实验能发现它")

# %% [markdown] english="b2f8f239"
# 所以真实的 0.02 完全可能漏掉，Holm 校正之后就更容易漏掉。*看不出差异*从来不等于“没有差异”：还不能排除多大的差异，看每一行的区间就知道。要说两个组*确实*相等，得先定一个界限，再证明整个区间都在界限之内（练习 5.2）。
#
# ## 你自己的实验组
#
# 一项最短、但仍有意义的实验：同样的训练配方，最浅的深度，很少的步数（用两个核约一分钟）。哪种位置编码会领先？
#
# > **先猜。** 给四种位置编码排个名次。

# %% tags=["nbval-ignore-output"]
short = {"n_layers": 2, "steps": max(1, steps // 12), "evaluate_every": 0, "decay": 0.0}
kinds = ("none", "learned", "sinusoidal", "rope")
arms = {kind: {"position": kind, **short} for kind in kinds}
question = "训练很少几步之后，哪种位置编码领先？"
own = studies.records(studies.Study("position-short", question, arms), text, seeds=1)
losses = {r.arm: r.validation_loss for r in own}
pd.Series(losses, name="奈特/字符，一个种子").sort_values().round(3)

# %% [markdown] english="b3551073"
# 一个种子，很少的步数：这只是线索，还不是发现。要得到可靠的发现，就要增加种子。`course ablate position` 会把它完整地做一遍；第 3 讲的每项选择，都各有一项实验：

# %%
for one in studies.CHOICES:
    print(f"{one.name:10} {one.question} {', '.join(one.arms)}")

# %% [markdown] english="0de3ae86"
# ## 逐项检验其他选择
#
# 每次只改一处，从 modern 训练配方出发（旋转位置编码、QK-norm、Muon；6 层，4 个头，宽度 256，上下文 1,024，dropout 0.2），预算很短（800 步），每组六个种子。各组读的字符数相同，所以 *batch x 2* 只训练一半的步数。
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
for recipe, table in (("modern", ranked), ("baseline，公平的学习率", fair)):
    row = table.set_index("arm").loc["no positions"]
    cost = f"{row['difference']:+.3f}（{row['low']:+.3f} 到 {row['high']:+.3f}）"
    print(f"没有位置编码，从训练配方 {recipe} 出发：{cost}")

# %% [markdown] english="7c860c13"
# 在这套训练配方里，影响最大的莫过于去掉残差连接；其次是没有位置编码，或者用可学习的位置编码；再次是几种过头的设置：dropout 一律丢掉一半，批次放大到四倍而步数只有四分之一，用十六个头。用 AdamW 代替 Muon，代价和恒定的学习率差不多，约二十分之一奈特。有改进的是：更少的 dropout，以及更小的批次配更多的步。有一个组叫 *unchanged, other seeds*（不改，换种子），设置与参照相同，批次不同：它的区间说明，设置相同的组也能相差多远。
#
# 有四点要注意，图上没有给出。只有参照的学习率是调过的：用 AdamW 代替 Muon 更新矩阵时，用的是基线的学习率（后来为它单独选了学习率再做一次，代价略小；见[实验结果](../../book/zh/results.md)）。改了*上下文*的组，做的是另一个任务（第 4 讲），不该和其余的放在同一条轴上。而且这些只是一套训练配方里的效果：从基线的模型出发，*没有位置编码*的代价只是这里的一小部分。最后，这套训练配方和 `laptop` 都是在这同一个验证集上试出来的，前后两半都用过（[日志](../../book/log.md)）：它们的损失偏乐观。

# %% [markdown] english="b6b05a81"
# 书里的[实验结果](../../book/zh/results.md)页有这项实验的全部数字；记录就在软件包里，上面的一切都由它们算出。你也可以自己验证：从那一页挑一句话，试着推翻它。
#
# ## 本讲小结
#
# 你做了一项完整的实验：知道答案之前，先写明要问什么；报告差异，也报告它有多不确定；并且清楚自己看不出什么。
#
# ## 思考
#
# **1.** 什么情况下，差异的区间会比按两个组各自的区间估计的更窄？什么情况下不会？
#
# <details><summary>答案</summary>
#
# 各组的损失随种子一起升降时（r 接近 1）。r 接近 0 时，它甚至还略宽一些，因为 n 对留下的自由度比两组各 n 个更少。 </details>
#
# **2.** 在你自己的实验里，各组的步数相同。如果改成*秒数*相同，谁会占便宜？
#
# <details><summary>答案</summary>
#
# 浅的模型，它们每秒能训练更多步：在时间相等的比较方式里，六层失去了领先。 </details>
#
# **3.** 有人试了 20 个组，每组一个种子，然后报告最好的。问题出在哪里？
#
# <details><summary>答案</summary>
#
# 二十个里最好的，有一部分只是碰巧最好：它的损失偏乐观（偏了多少，见练习 5.5）。要用新的种子，把它和参照重新比较一次，才能下结论。 </details>

# %% [markdown] english="f6b0a03e"
# ## 练习
#
# 补全每个代码骨架，再运行该单元格；检查程序会提示还有哪里不对。答案折叠在下面。

# %% [markdown] english="e2c02e45"
# ### 练习 5.1 · 热身 · 10 分钟
#
# 一项虚构的实验：六个配对种子，一套训练配方，一种预算。4 层对 2 层得到 −0.042 奈特/字符（95% 区间 −0.057 到 −0.026），6 层对 4 层得到 −0.007（−0.022 到 +0.008）。有人据此写了六句结论。哪几句说过头了？
#
# <details><summary>提示 1</summary>
#
# 六句里有两句，与区间的含义一致。其余各句，想一想：有哪个单元格、哪个数能检验它？ </details>
#
# <details><summary>提示 2</summary>
#
# 说过头有四种：把看不出差异说成相等，说某一个区间有多大概率正确，断言原因，推到别的预算。 </details>

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

# %% [markdown] english="30640603"
# ### 练习 5.2 · 核心 · 15 分钟
#
# *看不出差异*不等于*相等*。要说两个组在 `bound` 之内相等（这个界限要在实验之前定好），平均差异的整个区间必须落在 −`bound` 和 +`bound` 之间。（这就是 Schuirmann 的两个单侧检验，1987，各为 5%：所以用的是 90% 区间，它的 `t` 已经给出。）函数返回这个条件是否成立。然后取界限 0.02，用你的函数检验*原始方案：6 层对 4 层*（`comparisons.losses_of(depth)` 给出后一半上的 `{arm: {seed: loss}}`）：这是练习，不能算结论，因为你先看过了数字。
#
# <details><summary>提示 1</summary>
#
# 除了 `t`，需要的东西上面的 `interval` 里都有。 </details>
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

# %% [markdown] english="40425669"
# ### 练习 5.3 · 核心 · 15 分钟
#
# 自己求配对的 $t$ 区间。两个组，各六个种子；`t` 是从 t 分布表里查到的数。给出差异的下限、均值和上限，差异是 `losses` 减 `others`。两个字典里种子的顺序不一定相同。
#
# <details><summary>提示 1</summary>
#
# 先求六个差异，每个种子一个。这以后，就不必再管原来的两个组了。 </details>
#
# <details><summary>提示 2</summary>
#
# 均值 ± $t$ × 差异的分散程度（除以 $n - 1$）÷ $\sqrt n$。 </details>


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

# %% [markdown] english="3208d789"
# ### 练习 5.4 · 核心 · 20 分钟
#
# 拿七个组和基线比较，单凭偶然，其中也可能有一个达到 $p < 0.05$。Holm（1979）的办法是：把 $m$ 个 p 值中最小的乘以 $m$，下一个乘以 $m - 1$，依此类推；并且哪个都不能小于前一个，也不能大于 1。按原来的顺序返回它们。
#
# <details><summary>提示 1</summary>
#
# 沿着排好序的 p 值依次计算，随时记住到目前为止的最大值。 </details>
#
# <details><summary>提示 2</summary>
#
# `sorted(range(m), key=p_values.__getitem__)` 给出位置，这样每个结果都能写回原来的地方。 </details>


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

# %% [markdown] english="15f64a17"
# ### 练习 5.5 · 挑战 · 30 分钟
#
# 二十个组其实完全相同，最好的那个看上去却更好：好了多少？给你许多次模拟实验的损失，求最好的组对各种子的均值比全部组的均值低多少，再对各次实验取平均，返回这个数。检查程序会用你的函数计算 4,000 次模拟实验，每次 20 个组，先是每组一个种子，再是每组六个，并打印结果。
#
# <details><summary>提示 1</summary>
#
# 三个轴，依次三个问题：对种子求均值；每次实验里取最低的；对各次实验求均值。 </details>
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

# %% [markdown] english="f4d11fb8"
# ### 练习 5.6 · 挑战 · 120 分钟
#
# 在选出最佳学习率的那段文本上报告它的损失，就会偏乐观。用留出文本的一半为每个组选学习率，再报告这个学习率在另一半上的损失。要检查的部分就是这个函数，需要 20 分钟。
#
# 剩下的用一个晚上：做一项实验，2 层和 6 层，`learning_rate` 各取四个值（`studies.Study` 加上 `recipe="fair"`，其中只用 AdamW 训练；步数要少），再用第 4 讲的 `evaluate` 分别在两半上评估（`course_utils.training` 里的 `checkpoints.load_model(record.checkpoint)` 给出一次运行的模型和分词器）。在用来报告的那一半上，每个组选定的学习率，损失比这一半自己的最低损失高多少？如果选择和报告都用同一半，看不到的就是这个差距。

# %% [markdown] english="0f31276d"
# <details><summary>提示 1</summary>
#
# `min(row, key=row.get)` 就是损失最低的学习率。 </details>
#
# <details><summary>提示 2</summary>
#
# 按位置把留出文本切成两半。两半难度不同，所以各组只能在同一半之内比较。 </details>


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

# %% [markdown] english="7ea882c3"
# ## 自测
#
# 先选，再展开答案。
#
# **1. 三个配对差异：+5、+3、−1。符号翻转检验的 p 值是……** (a) 1/8 · (b) 1/4 · (c) 1/2
#
# <details><summary>答案</summary>
#
# **(c)** 总和是 7。八种翻转里，±(5 + 3 − 1) 和 ±(5 + 3 + 1) 都至少同样极端：共四种。(a) 只数了实际观测到的那一种；(b) 忘了 +9 比 +7 更极端。 </details>

# %% [markdown] english="785421b4"
# **2. 差异的 95% 区间是 −0.02 到 +0.01。所以……** (a) 两个组相等 · (b) 看不出差异 · (c) 第一个组更好的概率是 95%
#
# <details><summary>答案</summary>
#
# **(b)** (a) 说过头了：−0.02 仍有可能。(c) 误解了区间：95% 说的是这种求区间的方法，不是这个组更好的概率。 </details>

# %% [markdown] english="4906fcd7"
# **3. 你可以用很多种子，想让区间的宽度减半。需要多少种子？** (a) 原来的两倍 · (b) 原来的四倍 · (c) 靠增加种子办不到
#
# <details><summary>答案</summary>
#
# **(b)** 误差随 $\sqrt n$ 下降。如果随 $n$ 下降，(a) 才对。(c) 说的是所有种子共有的误差，例如数据里的缺陷；那样的误差，什么区间都显示不出来。 </details>

# %% [markdown] english="a0070b08"
# **4. 为什么各组要用同样的种子？** (a) 结果可以重复 · (b) 各组共有的随机影响会从差异里消去 · (c) 求一个均值所需的运行更少
#
# <details><summary>答案</summary>
#
# **(b)**，前提是有这样的影响：从相关系数看，这里几乎没有。(a) 只要固定种子就成立，各组的种子不同也行。(c) 不对：均值和以前一样不确定。 </details>

# %% [markdown] english="164ba456"
# **5. 二十个组，每组一个种子；最好的比基线低 0.02。下一步呢？** (a) 发表 · (b) 用新种子，把最好的和基线再比一次 · (c) 二十个全部再跑一遍，取两次中最好的
#
# <details><summary>答案</summary>
#
# **(b)** 新种子没有参与挑选，结果不会偏。(a) 报告的只是碰巧的结果（碰巧了多少，见 5.5）。(c) 又凭碰巧挑了一次。 </details>

# %% [markdown] english="c0be428f"
# **下一讲**：[6 · 采样](06_sampling.ipynb)，用训练好的模型写文本。
