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

# %% [markdown] english="f98a008e"
# # 4 · 训练：从乱码到诗句
#
# 第 3 讲用的是现成的训练循环，这一讲由你自己来写。你会测量其中各项设置有多大影响，看着模型的输出从乱码一步步变成诗句，直到它的损失低于 5-gram（五元语法）。然后，再到模型内部看个究竟。

# %% [markdown] english="9426659f"
# **你将学会**：凭记忆写出训练循环 · 找到合适的学习率 · 根据损失曲线判断是哪种 bug · 区分真实的差异和偶然的波动 · 精确地测量损失，并适时停止训练 · 说明某个注意力头的作用。
#
# **预备知识**：[第 3 讲](03_model.ipynb)、[二十行 PyTorch](../../book/zh/pytorch.md)；**时间**：阅读约 65 分钟；在笔记本电脑上运行代码约四分钟；做完核心练习约两小时。

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
import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

# %%
import copy
import time

import pandas as pd
from tqdm import tqdm

from course_utils import checks, corpus, figures, profiles, widgets
from course_utils.lessons.attention import attention_weights
from course_utils.lessons.data import (
    CharTokenizer,
    WittenBell,
    baseline_losses,
    get_batch,
    split,
)
from course_utils.lessons.model import GPT, GPTConfig, count_parameters, positions_at
from course_utils.training import runs

# %% [markdown] english="5fbee9b0"
# ## 要胜过的基线损失
#
# 文本的划分与第 1 讲相同。损失记录从第 1 讲各个统计模型在验证集上的损失开始。

# %% tags=["nbval-ignore-output"]
text, profile, device = corpus.load(), profiles.current(), profiles.device()
print(text.describe(), f"\n运行档 {profile.name}，设备 {device.type}")
tokenizer = CharTokenizer(text.text)
ids = torch.tensor(tokenizer.encode(text.text), device=device)
train_ids, validation_ids = split(ids)
baselines = baseline_losses(text.text)
pd.Series(baselines, name="奈特/字符").round(3).to_frame()

# %% [markdown] english="cd6671e6"
# ## 十行代码的训练循环
#
# 一个小模型，一个优化器，一个循环。循环的每一步做五件事：取一个批次，预测，计算损失，求梯度，更新权重。

# %% tags=["nbval-ignore-output"]
sizes = {"n_layers": 2, "n_heads": 4, "d_model": 64, "d_ff": 256, "dropout": 0.0}
small = GPTConfig(tokenizer.vocab_size, context_length=32, position="rope", **sizes)
torch.manual_seed(0)
model = GPT(small).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
draw = torch.Generator().manual_seed(0)
for step in range(profile.demo_steps):
    tokens, targets = get_batch(train_ids, 16, 32, draw)
    logits = model(tokens)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % max(1, profile.demo_steps // 5) == 0:
        print(f"第 {step:3} 步：损失 {loss.item():.2f} 奈特/字符")
shapes = {"tokens": tuple(tokens.shape), "logits": tuple(logits.shape)}
figures.training_step(shapes, title="一步训练")

# %% [markdown] english="dd3d5a67"
# 损失从大约 ln 65 = 4.17（相当于均匀猜测）降下来，逐渐接近二元语法的水平。`backward` 会把新算出的梯度*加*到已有的梯度上，所以要先调用 `zero_grad`。（图里的*裁剪*后面再讲。）这样的几行写错了，并不会报错（[练习 4.1](#exercise-4-1-warm-up-10-min) 里有四种错法）。自己把它写出来，是本讲最主要的练习，见 [4.2](#exercise-4-2-core-40-min)。
#
# ## 学习率与随机波动
#
# 各项设置里，最重要的是学习率。为了试不同的学习率，把那十行代码写成一个函数。一个随机种子决定初始权重和各个批次，所以同一个种子的两次试验，差别只来自你改动的地方。（`share` 用来缩放学习率，目前是 1。）

# %%
steps = 2 * profile.demo_steps
seeds = range(3)
windows = get_batch(validation_ids, profile.demo_windows, 32, torch.Generator().manual_seed(1))


def steady(step):
    return 1.0


def with_adamw(model, rate):
    return torch.optim.AdamW(model.parameters(), lr=rate)


@torch.no_grad()
def held_out_loss(model):
    """The loss on the same windows of held-out text each time."""
    tokens, targets = windows
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()).item()


# %%
def attempt(rate, seed=0, make=with_adamw, share=steady, ids=train_ids, steps=steps):
    """Train a small model. -> it, the loss of each step, ten losses on held-out text"""
    torch.manual_seed(seed)
    model = GPT(small).to(device)
    draw = torch.Generator().manual_seed(seed)
    optimizer, losses, held = make(model, rate), [], []
    for step in range(steps):
        for group in optimizer.param_groups:  # sets of weights with settings in common
            group["lr"] = rate * share(step)
        tokens, targets = get_batch(ids, 16, 32, draw)
        loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % max(1, steps // 10) == 0:
            held.append(held_out_loss(model))
    return model, losses, held


# %% [markdown] english="e849577a"
# 七个学习率，每个用三个种子（双核 CPU 约需一分十五秒）。
#
# > **先猜。** 画出最终损失随学习率变化的曲线。同一个学习率下，三个种子的结果相差多少？

# %% tags=["nbval-ignore-output"]
rates = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
bar = tqdm(rates, "学习率", leave=False)
trials = {rate: [attempt(rate, seed) for seed in seeds] for rate in bar}
final = {rate: [held[-1] for _, _, held in three] for rate, three in trials.items()}

# %% tags=["nbval-ignore-output"]
by_seed = {f"种子 {seed}": [final[rate][seed] for rate in rates] for seed in seeds}
labels = ("学习率（对数刻度）", "留出文本上的损失（奈特/字符）")
title = "训练后的损失随学习率的变化"
figures.lines(rates, by_seed, *labels, baselines, log_x=True, title=title, note=text.note)

# %% [markdown] english="b5a20fa8"
# 曲线像一只碗，两边都很陡。图中还能看出随机波动有多大。从这里起，一个差异是否可信，一律用*同一个标准*判断：按种子逐对相减；用三个种子时，差异的均值 ± 2.5 × 差异的标准差，就是 95% 置信区间（这个系数是 4.3/√3；见第 5 讲）。如果区间包含 0，就不能说有差异，也不必去找原因。


# %%
def compared(losses):
    """losses: name -> a loss a seed. Each row against the first, seed by seed."""
    table = pd.DataFrame(losses, index=[f"种子 {seed}" for seed in seeds]).T
    differences = table.sub(table.iloc[0])
    mean, margin = differences.mean(axis=1), 2.5 * differences.std(axis=1)
    table["差异"], table["±（95%）"] = mean, margin
    table["可信"] = (mean.abs() > margin).map({True: "是", False: "否"})
    table.loc[table.index[0], "可信"] = "–"
    return table.round(3)


# %% tags=["nbval-ignore-output"]
best = min(rates, key=lambda rate: sum(final[rate]))
near = sorted(rates, key=lambda rate: sum(final[rate]))[:4]
compared({f"学习率 {rate:g}": final[rate] for rate in near})

# %% tags=["nbval-ignore-output"]
noisy = {f"学习率 {rate:g}": trials[rate][0][1] for rate in (1e-4, best, 1e-1)}
smooth = pd.DataFrame(noisy).ewm(span=10).mean()  # recent ones weigh most
labels = ("step", "训练损失（奈特/字符）")
title = "太低、合适、太高（按十步平滑）"
figures.lines(range(1, steps + 1), smooth, *labels, baselines, title=title, note=text.note)

# %% [markdown] english="01510c10"
# 在最好的学习率下，三个种子的损失相差不到 0.03 奈特；学习率提高到三倍，则相差不到 0.12：可见随机波动的大小并不固定。相邻的两个学习率都更差，两个差异都可信。学习率太低时，曲线到最后还在下降；太高时，损失先跳到均匀分布的损失之上，然后一直*停*在远高于最好结果的水平。
#
# ## 往哪个方向更新
#
# 普通的 **SGD** 沿负梯度方向更新，所有权重共用一个学习率。**动量**（momentum）沿历次梯度的加权和更新，越早的梯度权重越小（PyTorch 里是 $v \leftarrow 0.9 v + g$）：在不同批次之间时正时负的分量会相互抵消。**AdamW** 为每个权重单独确定更新量：近期梯度的均值，除以它们均方的平方根（均值和均方都是滑动平均；Kingma 和 Ba，2015）。它的**权重衰减**（weight decay）把权重朝 0 缩小，与梯度分开计算（Loshchilov 和 Hutter，2019）。这里给 SGD 加上动量，试三个学习率（双核 CPU 约需半分钟）。


# %% tags=["nbval-ignore-output"]
def sgd(model, rate):
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)


by_sgd = [[attempt(r, s, sgd)[2][-1] for s in seeds] for r in tqdm((0.03, 0.1, 0.3), leave=False)]
compared({"AdamW": final[best], "SGD，动量": min(by_sgd, key=sum)})

# %% [markdown] english="d72fb8a8"
# 训练 200 步之后，差异很明显；SGD 用的是三个学习率里最好的，AdamW 用的是七个里最好的。别人检验过一种解释：对于少见的词，梯度下降学得太慢（Kunstner 等，2024）。
#
# **训练时看什么。** 看梯度的长度：如果突然变长，就是出了问题。再看每一步更新量的长度与权重的长度之比：按经验，大约是千分之一（Karpathy，2015）。


# %%
def length(tensors):
    """Of all numbers in all tensors, as one long vector."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors]).norm().item()


# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
model = GPT(small).to(device)
optimizer, draw, watched = with_adamw(model, best), torch.Generator().manual_seed(0), []
for _ in range(steps):
    tokens, targets = get_batch(train_ids, 16, 32, draw)
    loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    moved = length([p - b for p, b in zip(model.parameters(), before, strict=True)])
    norm = length([p.grad for p in model.parameters()])
    watched.append({"梯度": norm, "更新量 / 权重": moved / length(before)})
shown = sorted({0, 1, 2, steps // 20, steps // 4, steps // 2, steps - 1})
table = pd.DataFrame(watched, index=range(1, steps + 1)).rename_axis("step")
table.iloc[shown].round(4)

# %% [markdown] english="5e123c0c"
# 这个比例开始时是百分之几，最后降到百分之一以下，仍高于经验值；不过这次训练很短，学习率又一直停在峰值。
#
# ## 遇到一个异常批次
#
# 梯度的长度超过上限时，**梯度裁剪**（clipping）把它缩短到上限（Pascanu 等，2013）。AdamW 本来就会除以梯度的大小，裁剪还有用吗？下面给刚才观察的那个模型一个异常的批次，其中的目标全是最少见的那个字符；之后的批次又恢复正常。
#
# > **先猜。** 在不裁剪和裁剪两种情况下，这个批次会让损失立刻升高多少？二十步之后还高多少？（代码先运行一个没有遇到它的副本，作为对照。）

# %% tags=["nbval-ignore-output"]
rarest = train_ids.bincount(minlength=tokenizer.vocab_size).argmin().item()
strange = torch.full((16, 32), rarest, device=device)
print(f"遇到异常批次之前：{held_out_loss(model):.3f}")
for meets_it, limit in ((False, math.inf), (True, math.inf), (True, 1.0), (True, 0.1)):
    # Together, so that the copied optimiser moves the copied model
    copied, its_optimizer, its_draw = copy.deepcopy((model, optimizer, draw))
    for i in range(21):
        tokens, targets = get_batch(train_ids, 16, 32, its_draw)
        wanted = strange if meets_it and i == 0 else targets
        loss = F.cross_entropy(copied(tokens).flatten(0, 1), wanted.flatten())
        its_optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(copied.parameters(), limit)
        its_optimizer.step()
        if i in (0, 20):
            print(f"{'异常' if meets_it else '正常'}批次，裁剪到 {limit}：", end=" ")
            print(f"梯度 {norm:.2f}，{i} 步之后 {held_out_loss(copied):.3f}")

# %% [markdown] english="e839075e"
# 不裁剪时，这一个批次立刻让损失升高将近十分之一奈特，二十步之后仍高于对照副本；裁剪到 1 时，二十步之后已经追上对照副本。（只用了一个种子；打印的是裁剪之前的梯度长度。裁剪到 0.1 时，正常批次的梯度也会被裁剪，损失反而更高，也许因为除数里还留着以前那些较大梯度的平方。）刚开始训练时，裁剪对 AdamW 的第一步不起作用：均值除以均方根等于 $g/|g|$，只剩下正负号。到了后来，一个特别大的梯度会在两个滑动平均里停留很久，裁剪能把它挡在外面。
#
# ## 一次训练的设置
#
# 决定一次训练结果的设置都在这里。默认值就是原始方案 `baseline`；没讲过的，下面会讲。


# %% tags=["export"]
@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. The defaults are the `baseline` protocol."""

    steps: int = 20_000  # at most; early stopping may end it before
    batch_size: int = 32  # B, windows a step
    optimizer: str = "adamw"  # adamw | muon, for the blocks' matrices
    learning_rate: float = 1e-4  # the peak, of AdamW
    muon_learning_rate: float = 0.02  # the peak, of Muon
    muon_momentum: float = 0.95  # the share of its last direction that Muon keeps
    muon_iterations: int = 5  # 1 … 5: fewer are faster, and make its steps less equal
    weight_decay: float = 0.01  # of matrices
    warmup_steps: int = 0  # over which the rate climbs to its peak
    decay: float = 0.0  # the last share of the steps, over which the rate falls to 0
    clip_norm: float = 1.0  # the longest gradient that is let through
    evaluate_every: int = 0  # steps; 0 is once an epoch, all text once
    patience: int = 5  # evaluations without a new best before it stops; 0 never
    seed: int = 0  # of weights, batches and dropout

    def __post_init__(self):
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer must be adamw or muon, not {self.optimizer!r}")
        if min(self.learning_rate, self.muon_learning_rate, self.clip_norm) <= 0:
            raise ValueError("learning rates and clip_norm must be above 0")
        if not 0 <= self.decay <= 1 or not 0 <= self.muon_momentum < 1:
            raise ValueError("decay must lie in [0, 1], muon_momentum in [0, 1)")
        if min(self.steps, self.batch_size) < 1 or self.muon_iterations not in range(1, 6):
            raise ValueError("steps, batch_size: at least 1; muon_iterations: 1 … 5")
        if min(self.weight_decay, self.warmup_steps, self.evaluate_every, self.patience) < 0:
            raise ValueError("weight_decay, warmup, evaluate_every, patience: 0 or more")


# %% [markdown] english="418867f0"
# ## 学习率怎样随训练变化
#
# AdamW 刚开始时，两个滑动平均里只有一两个梯度，所以学习率先用若干步升到峰值，这叫**预热**（warm-up；Goyal 等，2017）；然后保持不变，最后下降。（也可以沿余弦曲线下降，见 Loshchilov 和 Hutter，2017，以及[练习 4.3](#exercise-4-3-core-15-min)。）
#
# 下面比较四种学习率调度，峰值都取得略微偏高（双核 CPU 约需四十五秒）：


# %% tags=["export"]
def learning_rate_at(step, config):
    """The share of the peak rate at a step: up in a line, flat, down in a line.

    step: 0 … config.steps - 1 -> a number in (0, 1].
    """
    up = (step + 1) / max(1, config.warmup_steps)
    down = (config.steps - step) / max(1, config.decay * config.steps)
    return min(1.0, up, down)


# %% tags=["nbval-ignore-output"]
schedules, shapes = {}, {}
for warmup, decay in tqdm([(0, 0.0), (10, 0.0), (10, 0.5), (10, 1.0)], leave=False):
    config = TrainConfig(steps=steps, warmup_steps=warmup, decay=decay)
    name = f"预热 {warmup}，衰减 {decay:.0%}"
    shapes[name] = [learning_rate_at(step, config) for step in range(steps)]
    schedules[name] = [attempt(1e-2, s, share=shapes[name].__getitem__)[2][-1] for s in seeds]

# %% tags=["nbval-ignore-output"]
print(compared(schedules))
labels, title = ("step", "占峰值的比例"), "四种学习率调度"
figures.lines(range(1, steps + 1), shapes, *labels, title=title)

# %% [markdown] english="398356b3"
# 没有一行的差异是可信的。如果只用种子 1，这一讲可能会说预热有用；如果只用种子 2，又可能劝你不要衰减。这并不说明学习率调度没有用：推荐它们的那些研究，训练要长得多。
#
# ## 精确地测量
#
# 到目前为止，损失是在 512 个窗口上算的。整个验证集也只有十来万次预测，不如全部算一遍，窗口首尾相接。


# %% tags=["export"]
@torch.no_grad()
def token_losses(model, ids):
    """The loss at each token but the first: (N,) int64 -> (N - 1,) float64, CPU, nats.

    Dropout is off. Read in windows of the context length that don't overlap; the last may
    be shorter. A few at a time stay in a CPU's cache; a GPU wants many.
    """
    if len(ids) < 2:
        raise ValueError("evaluation needs at least 2 tokens: to read and to predict")
    T, N, was_training = model.config.context_length, len(ids) - 1, model.training
    at_once = max(1, (2**16 if ids.is_cuda else 2**10) // T)
    model.eval()
    losses, start = [], 0
    while start < N:
        left = N - start
        windows = min(at_once, left // T)  # whole ones first
        stop = start + (windows * T or left)  # no whole one left: the short rest
        logits = model(ids[start:stop].view(-1, min(T, left))).flatten(0, 1)
        targets = ids[start + 1 : stop + 1]
        losses.append(F.cross_entropy(logits, targets, reduction="none"))
        start = stop
    model.train(was_training)
    return torch.cat(losses).cpu().double()


# %% tags=["export"]
def evaluate(model, ids):
    """The exact loss over all of ids: the mean token loss, in nats/character."""
    return token_losses(model, ids).mean().item()


# %% tags=["nbval-ignore-output"]
each = token_losses(model, validation_ids)
by_window = each[: len(each) // 32 * 32].view(-1, 32).mean(1)
print(f"全部 {len(each):,} 次预测：{evaluate(model, validation_ids):.3f}")
for name, n in {"一批 16": 16, "512": 512, "200 批、每批 64": 12_800}.items():
    error = by_window.std() / math.sqrt(n)
    print(f"{name:>17} 个窗口：±{error:.4f}（标准误）")

# %% [markdown] english="412f28e0"
# 标准误说的是通常会偏多少：用单个批次算，约百分之几奈特；用我们的 512 个窗口，约百分之一奈特；[nanoGPT](https://github.com/karpathy/nanoGPT) 评估时用 200 批、每批 64 个窗口，读过的字符比整个验证集还多。这里的*精确*，只对这份验证集、这种窗口划分而言；验证集只有全文的十分之一，本身也是一个样本。
#
# ## 为什么验证损失会先降后升
#
# > **先猜。** 文本很少，训练步数很多：这份文本上的损失，和没见过的文本上的损失，会分别怎样变化？

# %%
few = train_ids[:10_000]
_, losses, held = attempt(best, ids=few, steps=3 * steps)
tenth = len(losses) // 10
x = range(tenth, 10 * tenth + 1, tenth)
seen = [sum(losses[i - tenth : i]) / tenth for i in x]

# %% tags=["nbval-ignore-output"]
curves = {"trained on": seen, "held out": held}
labels = ("step", "损失（奈特/字符）")
title = "反复读同一章"
figures.lines(x, curves, *labels, baselines, title=title, note=text.note)

# %% [markdown] english="5ae9f5e1"
# 起初两条曲线都下降：模型学到的是这类文本共有的规律。后来它开始把*这一份*文本背下来，这就是**过拟合**（overfitting）：换一份文本就不对了，而交叉熵对“很有把握却猜错”的惩罚最大。dropout（Srivastava 等，2014；第 3 讲）和更多的文本都能推迟过拟合。
#
# **提前停止**（early stopping；Prechelt，1998）在损失不再刷新最低值时，会再等几次评估（次数就是**耐心值**，patience）；如果仍没有刷新，就停止训练，恢复到损失最低时的权重。下面的例子里耐心值为二，最后打印的是哪一行？


# %% tags=["export"]
class EarlyStopping:
    """Stop after `patience` evaluations in a row without a new best loss; 0 never stops."""

    def __init__(self, patience):
        self.patience, self.best, self.waited = patience, math.inf, 0

    def update(self, loss):
        """Take in one evaluation. -> whether it is the best so far"""
        improved = loss < self.best
        self.best = min(self.best, loss)
        self.waited = 0 if improved else self.waited + 1
        return improved

    @property
    def should_stop(self):
        return 0 < self.patience <= self.waited


# %%
stopping = EarlyStopping(patience=2)
for loss in (3.0, 2.5, 2.6, 2.4, 2.4, 2.5, 2.3):
    said = "目前最好" if stopping.update(loss) else ""
    print(loss, said, "停止" if stopping.should_stop else "")
    if stopping.should_stop:
        break

# %% [markdown] english="dc569f17"
# 持平不算改进（第二个 2.4），而再等下去就会遇到 2.3：耐心值取多大，总要赌一把。（验证损失甚至可能第二次下降：Nakkiran 等，2020。）
#
# ## 完整的循环
#
# 再补上两点，就可以做[练习 4.2](#exercise-4-2-core-40-min) 了。第一，批次太大、内存放不下时，可以分成几份依次计算：每份的损失乘以这一份在批次行数中所占的比例，`backward` 会把各份的梯度累加起来。第二，模型里有 dropout 时，更新之前要调用 `model.train()`，测量之前要调用 `model.eval()`。这里用的是第 5 讲实验中最小的模型：

# %% tags=["nbval-ignore-output"]
spec = runs.depth_spec(2, text)
every = max(1, profile.loop_steps // 5)
config = TrainConfig(
    steps=profile.loop_steps,
    batch_size=spec.train.batch_size,
    learning_rate=best,
    warmup_steps=10,
    decay=0.5,
    evaluate_every=every,
)
print(spec.model)

# %% [markdown] english="8d401dfe"
# 每次评估，`report` 精确地算出训练和验证两个损失，`write` 生成一段样例（第 6 讲）。这个循环在双核 CPU 上约需半分钟。


# %%
@torch.no_grad()
def write(model, prompt, n_new=80):
    """The prompt and n_new drawn characters; dropout off, the same luck each time."""
    ids, was_training = tokenizer.encode(prompt), model.training
    luck = torch.Generator().manual_seed(0)
    model.eval()
    for _ in range(n_new):
        recent = torch.tensor([ids[-model.config.context_length :]], device=device)
        probabilities = model(recent)[0, -1].softmax(-1).cpu()
        ids.append(torch.multinomial(probabilities, 1, generator=luck).item())
    model.train(was_training)
    return tokenizer.decode(ids)


# %%
def report(model, step):
    """Add to what the next cell begins: rows, samples, curve. -> validation loss"""
    measured = {
        "training_loss": evaluate(model, train_ids[:20_000]),
        "validation_loss": evaluate(model, validation_ids),
    }
    rows.append({"arm": "2 layers", "seed": 0, "step": step} | measured)
    live.show(figures.training_curves(pd.DataFrame(rows), baselines, note=text.note))
    samples[step] = write(model, text.fitting_prompt())
    return measured["validation_loss"]


# %% tags=["nbval-ignore-output"]
torch.manual_seed(config.seed)
model, context = GPT(spec.model).to(device), spec.model.context_length
optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
draw = torch.Generator().manual_seed(config.seed)
stopping, rows, live, seconds = EarlyStopping(config.patience), [], widgets.Live(), 0.0
samples = {0: write(model, text.fitting_prompt())}
for step in tqdm(range(config.steps), "步", leave=False):
    begin = time.perf_counter()
    tokens, targets = get_batch(train_ids, config.batch_size, context, draw)
    loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * learning_rate_at(step, config)
    optimizer.step()
    seconds += time.perf_counter() - begin
    if (step + 1) % config.evaluate_every == 0:
        if stopping.update(report(model, step + 1)):
            kept = copy.deepcopy(model.state_dict())
        if stopping.should_stop:
            break
gradient = model.blocks[0].attention.out.weight.grad.cpu()  # the last one, for Muon below
model.load_state_dict(kept)  # back to the best
speed = (step + 1) * tokens.numel() / seconds
print(f"最好的验证损失 {stopping.best:.3f} 奈特/字符", end=", ")
print(f"每秒 {speed:,.0f} 个字符，{tokens.device.type} float32")

# %% [markdown] english="585afca5"
# 虚线是训练集前 20,000 个字符上的损失，目前大多高于验证损失，因为两段文本不同。那么它*写*出了什么呢？

# %% tags=["nbval-ignore-output"]
for step, written in samples.items():
    print(f"--- 第 {step} 步\n{written}\n")

# %% [markdown] english="d363b702"
# 乱码里已经看得出单词的样子；要看到诗句，还得等完整的训练。
#
# ## Muon：先看一个矩阵
#
# `laptop` 训练配方还用到一个技巧。一个矩阵在它的每个方向上各有一个拉伸倍数，叫**奇异值**（singular value）。**Muon** 把各层里每个矩阵的动量变成*正交*矩阵，奇异值全部为 1：各个方向的更新量相同。它为什么有效，作者只给出猜想：更新中那些幅度小、不常出现的方向，对学习很重要（Jordan 等，2024）。
#
# $1.5 x - 0.5 x^3$ 把 0 到 1 之间的任何 $x$ 推近 1，而 $1.5 X - 0.5 X X^\top X$ 对矩阵的每个奇异值做同样的事，并不需要知道这些奇异值。（任何矩阵都可以看成先旋转，再拉伸，最后再旋转：$X = U S V^\top$，奇异值在 $S$ 的对角线上。转过去再转回来等于没有转，所以在 $X X^\top X$ 里，中间的因子两两消去，剩下 $U S^3 V^\top$。）反复这样做，就是 **Newton–Schulz 迭代**。换成五个多项式 $a x + b x^3 + c x^5$ 更快，每一个都是针对前一个的结果选出的最佳多项式（Amsel 等，2025）：


# %% tags=["export"]
POLYNOMIALS = (  # a, b, c of each iteration: Amsel et al. (2025), Polar Express
    (8.3837, -24.7659, 18.3571),
    (4.0434, -3.0114, 0.5695),
    (3.5056, -2.6267, 0.5257),
    (2.4901, -1.8343, 0.4368),
    (1.9178, -1.2968, 0.3797),
)


# %%
def orthogonal(matrix, iterations=5):
    """Push every singular value of one matrix towards 1."""
    x = matrix / (1.01 * matrix.norm())  # now none is above 1
    for a, b, c in POLYNOMIALS[:iterations]:
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x


# %% [markdown] english="dd95a007"
# 下面用的是刚才你的循环里，某个矩阵的最后一个梯度。
#
# > **先猜。** 哪些奇异值最难推到 1？

# %% tags=["nbval-ignore-output"]
ways = {"迭代之前": gradient / torch.linalg.matrix_norm(gradient, 2)}
ways |= {f"{n} 次迭代": orthogonal(gradient, n) for n in (3, 5)}
values = {}
for name, matrix in ways.items():
    values[name] = torch.linalg.svdvals(matrix)
    half = values[name][: len(gradient) // 2]
    print(f"{name:>12}，较大的一半：{half.min():.2f}～{half.max():.2f}")
labels = ("奇异值的序号（从大到小）", "奇异值")
x, title = range(1, len(gradient) + 1), "一个梯度的奇异值，迭代前后"
figures.lines(x, values, *labels, title=title)

# %% [markdown] english="10f1774e"
# 最小的那些：一次迭代最多把一个很小的值放大到 `a` 倍。前几次迭代会冲过头，好让小的值很快升上来；后几次再稳定下来。即使迭代五次（`laptop` 三次就停），最弱的那些仍接近 0：比原来均匀，但还不相等。
#
# 最后看更新的大小。正交的方阵保持输入的长度不变。行多列少的矩阵把这个长度分到更多的输出上，所以每个输出变化较小。行少列多的矩阵只保留一部分长度，但输出也少，所以每个输出的变化与方阵相同：

# %%
for rows, columns in ((64, 64), (256, 64), (64, 256)):
    draw = torch.Generator().manual_seed(1)
    update = orthogonal(torch.randn(rows, columns, generator=draw))
    moved = update @ torch.randn(columns, 1000, generator=draw)
    factor = max(1.0, rows / columns) ** 0.5
    print(f"{rows:3} × {columns:3}：每个输出变化 {moved.std():.2f}", end=", ")
    print(f"乘以系数 {factor:.0f} 之后：{moved.std() * factor:.2f}")

# %% [markdown] english="59ef2401"
# 对行多列少的矩阵，把更新乘以 √(行数 / 列数)，这三种矩阵就能共用一个学习率，输出的变化量相同。
#
# ## 一般形式
#
# 课程的软件包把形状相同的矩阵放在一起处理。下面的代码大致浏览即可。（`baddbmm` 把加法和批量矩阵乘法合成一步。）


# %% tags=["export"]
def orthogonalise(updates, iterations=5):
    """Push every singular value of each matrix towards 1: (N, R, C) -> (N, R, C).

    Jordan et al. (2024), Muon, with the first `iterations` of POLYNOMIALS.
    """
    x = updates.bfloat16() if updates.is_cuda else updates
    x = x / (1.01 * x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # below 1
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for a, b, c in POLYNOMIALS[:iterations]:
        square = x @ x.mT
        mixed = torch.baddbmm(square, square, square, beta=b, alpha=c)  # b s + c s²
        x = torch.baddbmm(x, mixed, x, beta=a)  # a x + (b s + c s²) x
    return (x.mT if tall else x).to(updates.dtype)


# %% tags=["export"]
class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal: all directions move alike. Jordan et al. (2024)."""

    def __init__(self, matrices, lr, weight_decay=0.0, momentum=0.95, iterations=5):
        shapes = {}
        for matrix in matrices:
            shapes.setdefault(matrix.shape, []).append(matrix)
        groups = [{"params": same} for same in shapes.values()]
        settings = dict(lr=lr, weight_decay=weight_decay, momentum=momentum)
        super().__init__(groups, settings | {"iterations": iterations})
        self.orthogonalise = orthogonalise  # a faster one may take its place
        # The matrices of one shape become slices of one tensor, to be treated at once.
        self.weights = [torch.stack([p.data for p in same]) for same in shapes.values()]
        for group, weights in zip(self.param_groups, self.weights, strict=True):
            for p, weight in zip(group["params"], weights, strict=True):
                p.data = weight

    @torch.no_grad()
    def step(self):
        for group, weights in zip(self.param_groups, self.weights, strict=True):
            gradients = torch.stack([p.grad for p in group["params"]])
            state = self.state[group["params"][0]]
            velocity = state.setdefault("momentum_buffer", torch.zeros_like(gradients))
            velocity.lerp_(gradients, 1 - group["momentum"])  # a share of the way
            ahead = gradients.lerp(velocity, group["momentum"])  # Nesterov's: one step ahead
            update = self.orthogonalise(ahead, group["iterations"])
            rows, columns = update.shape[1:]
            weights.mul_(1 - group["lr"] * group["weight_decay"])
            weights.sub_(update * (group["lr"] * max(1.0, rows / columns) ** 0.5))


# %% [markdown] english="7c14e82b"
# Muon 更新各层里的矩阵，AdamW 更新其余的参数。只有矩阵才做权重衰减：增益本来就该在 1 附近，衰减到 0，对应的通道就关掉了。


# %% tags=["export"]
def make_optimizers(model, config):
    """AdamW for everything, or Muon for the blocks' matrices and AdamW for the rest.

    Only matrices decay. Each group remembers its peak rate as group["peak"]. -> a list
    """
    by_muon = []
    if config.optimizer == "muon":
        by_muon = [p for p in model.blocks.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if not any(p is q for q in by_muon)]
    matrices, gains = [p for p in rest if p.ndim == 2], [p for p in rest if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": gains, "weight_decay": 0.0},
    ]
    device = next(model.parameters()).device.type
    kernel = {"fused": device in ("cpu", "cuda"), "capturable": device == "cuda"}
    rate, betas = config.learning_rate, (0.9, 0.95)  # how slowly the two means fade
    optimizers = [torch.optim.AdamW(groups, lr=rate, betas=betas, **kernel)]
    if by_muon:
        settings = (config.weight_decay, config.muon_momentum, config.muon_iterations)
        optimizers.append(Muon(by_muon, config.muon_learning_rate, *settings))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


# %% [markdown] english="3beb3453"
# 下面是循环中的一步，另外加了两点：`rate` 是学习率占每个优化器各自峰值的比例；批次可以分成 `micro_batches` 份依次计算。取默认值时，它就是普通的一步（下面第三个单元格会验证）。


# %% tags=["export"]
def next_character_loss(model, tokens, targets):
    """The mean token loss, in nats/character. tokens, targets: (B, T) int64 -> ()."""
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


# %% tags=["export"]
def training_step(
    model, optimizers, tokens, targets, rate, clip_norm=1.0, loss_of=None, micro_batches=1
):
    """Predict, measure, differentiate, clip, move. -> the batch's loss before the move

    rate: the share of the peak rates, a number or a tensor of shape (). loss_of: where it
    is not next_character_loss. micro_batches: read the batch in so many pieces, where the
    whole does not fit in memory; their gradients add up to the same.
    """
    loss_of, losses = loss_of or next_character_loss, []
    pieces = zip(tokens.chunk(micro_batches), targets.chunk(micro_batches), strict=True)
    for some, theirs in pieces:
        loss = loss_of(model, some, theirs) * (len(some) / len(tokens))
        loss.backward()
        losses.append(loss.detach())
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        optimizer.step()
        optimizer.zero_grad()
    return sum(losses)


# %%
tokens, targets = get_batch(train_ids, 16, 32, torch.Generator().manual_seed(0))
after = []
for micro_batches in (None, 1, 4):
    torch.manual_seed(0)
    fresh = GPT(small).to(device)
    optimizer = with_adamw(fresh, best)
    if micro_batches is None:
        F.cross_entropy(fresh(tokens).flatten(0, 1), targets.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(fresh.parameters(), 1.0)
        optimizer.step()
    else:
        optimizer.param_groups[0]["peak"] = best
        training_step(fresh, [optimizer], tokens, targets, 1.0, 1.0, None, micro_batches)
    after.append(next_character_loss(fresh, tokens, targets).item())
assert max(after) - min(after) < 1e-4, "几种写法应当得到同样的一步"
same = torch.allclose(orthogonalise(gradient[None])[0], orthogonal(gradient), atol=1e-3)
assert same, "所有矩阵一起算，与逐个算，结果应当相同"

# %% [markdown] english="045dbf54"
# 那么，Muon 在这里更好吗？两者都用恒定的学习率（约十五秒）：


# %% tags=["nbval-ignore-output"]
def by(kind, seed):
    config = TrainConfig(optimizer=kind, learning_rate=best, seed=seed)
    torch.manual_seed(seed)
    model, draw = GPT(small).to(device), torch.Generator().manual_seed(seed)
    optimizers = make_optimizers(model, config)
    for _ in range(steps):
        training_step(model, optimizers, *get_batch(train_ids, 16, 32, draw), rate=1.0)
    return held_out_loss(model)


kinds = tqdm(("adamw", "muon"), "优化器", leave=False)
compared({kind: [by(kind, seed) for seed in seeds] for kind in kinds})

# %% [markdown] english="078be13c"
# 按本讲的标准，训练的步数相同时，Muon 的损失更低。（这里的 *adamw* 与前面比较学习率时用的 AdamW 不完全一样：*betas* 不同，增益不衰减，有梯度裁剪。）
#
# ## 完整的训练
#
# 下面是适合这台机器的训练配方，其中那些零碎的数值，是在验证集上试出来的最好取值（[日志](../../book/log.md)）。如果同样的训练你以前做过，或者课程已经做过，就直接从磁盘读取；否则要现场训练，在笔记本电脑上需要几分钟。（[在线体验](../../book/zh/playground.md)会在你的浏览器里用这份配方训练。）

# %% tags=["nbval-ignore-output"]
print(spec.train)
model, record = runs.small_model(text, device)
curve = pd.DataFrame(record.history).assign(arm=record.arm, seed=record.seed)
figures.training_curves(curve, baselines, note=text.note)

# %% [markdown] english="c9aadd1a"
# 这里的虚线是最近几个批次的平均损失，不需要额外计算，但有滞后；验证损失只测了一次，所以图上只有一个点。（软件包里的训练程序就是你的循环，多了计时，提前停止的做法也不同，见第 5 讲。）下面用同样的方法，测量两段文本上的损失：

# %% tags=["nbval-ignore-output"]
reached = evaluate(model, validation_ids)
assert abs(reached - record.validation_loss) < 2e-3, "磁盘上的就是最好的权重"
begin = evaluate(model, train_ids[: len(validation_ids)])
print(f"训练集的前十分之一：{begin:.3f} 奈特/字符")
print(f"验证集：{reached:.3f} 奈特/字符")
print(write(model, text.fitting_prompt(), 200))
for name in ("5-gram", "Kneser–Ney"):
    if name in baselines:
        print(f"{name}：{baselines[name]:.3f}，模型与它相差 {reached - baselines[name]:+.3f}")
order = 5 if "5-gram" in baselines else 2  # five are too many for a very large alphabet
tables = WittenBell(train_ids.cpu(), order, tokenizer.vocab_size).tables
counts = sum(len(grams) for grams, *_ in tables)
print(f"{order}-gram 模型存了 {counts:,} 个计数，", end=" ")
print(f"你的模型有 {count_parameters(model):,} 个权重。")

# %% [markdown] english="79ad5d73"
# **它是背下来的吗？** 它在训练文本上的损失更低，但也许那段文本本来就更容易。这可以用统计模型来判断：把文本分成十份，依次留出一份，用其余九份统计，再看留出的那份损失是多少。

# %%
tenths = ids.cpu().chunk(10)
costs = []
for i, left_out in enumerate(tenths):
    rest = torch.cat([*tenths[:i], *tenths[i + 1 :]])
    counter = WittenBell(rest, order, tokenizer.vocab_size)
    costs.append(counter.loss(left_out))

# %% tags=["nbval-ignore-output"]
labels = ("留出的那一份（全文的十分之一）", "这一份的损失（奈特/字符）")
title = "对统计模型来说，每一份有多难？"
print(f"最后一份比第一份高：统计模型 {costs[-1] - costs[0]:.2f}", end=", ")
print(f"你的模型 {reached - begin:.2f} 奈特/字符")
figures.lines(range(1, 11), {"统计模型": costs}, *labels, title=title, note=text.note)

# %% [markdown] english="ac61497e"
# 每个统计模型都没有读过用来测它的那一份；最难的是最后一份，也就是我们的验证集。最后一份与第一份相比，统计模型的损失也更高，高出的量有你的模型的一大半：这个差距多半来自文本本身，而不是“背下来”造成的。
#
# ## 损失记录
#
# *十行代码*一行是用最好的学习率训练 200 步的结果，在 512 个窗口上测得；其余都是精确值。最好的统计模型暂时领先，到第 5 讲才会被超过。

# %% tags=["nbval-ignore-output"]
lines = {"十行代码": final[best][0], "你的循环": stopping.best, "2 layers": reached}
log = pd.DataFrame({"奈特/字符": baselines | lines})
read = {"十行代码": small.context_length, "你的循环": context, "2 layers": context}
log["上下文"] = pd.Series(read, dtype="Int64")
log["困惑度"] = log["奈特/字符"].map(math.exp)
log.round(3)

# %% tags=["nbval-ignore-output"]
figures.loss_bars(log["奈特/字符"].to_dict(), note=text.note)

# %% [markdown] english="7708f0dd"
# ## 模型内部
#
# **它往回看多远？** 按字符在上下文中的位置，把损失分开来算。
#
# > **先猜。** 在第一个位置，它只读了一个字符。这时它相当于第 1 讲的哪个模型？

# %% tags=["nbval-ignore-output"]
losses = token_losses(model, validation_ids)
by_place = losses[: len(losses) // context * context].view(-1, context)
means, errors = by_place.mean(0), by_place.std(0) / math.sqrt(len(by_place))
print(f"第一个位置：{means[0]:.2f} ± {2 * errors[0]:.2f}，二元语法 {baselines['bigram']:.2f}")
title = "多读一个字符，损失降低多少"
figures.loss_by_position(means, baselines, errors, title=title, note=text.note)

# %% [markdown] english="e6bba2db"
# 在第一个位置，它比二元语法还差，而且差距超出了误差带。（猜测：训练时，它很少遇到第一个位置。）大约十个位置之内，它就追上了 5-gram；几十个位置之后，多读上文的好处就小于误差带了。每个窗口都从几个难猜的位置开始，所以上下文长度不同的损失不能相互比较。
#
# **各个头在看哪里？** 取一行模型没见过的文本，逐层看第 2 讲的注意力权重：


# %%
@torch.no_grad()
def weights_of(model, tokens):
    """Each head's attention while the model reads: tokens (B, T) -> (L, B, H, T, T)."""
    added, angles = positions_at(model, 0, tokens.shape[1])
    x, maps = model.embedding(tokens) * model.scale + added, []
    for block in model.blocks:
        q, k, _ = block.attention.queries_keys_values(block.norm_1(x), angles)
        maps.append(attention_weights(q, k))
        x = block(x, angles)
    return torch.stack(maps)


# %% tags=["nbval-ignore-output"]
line = validation_ids[11:29]
weights = weights_of(model, line[None])[:, 0].cpu()
assert weights.triu(1).abs().max() == 0, "每一层都有掩码"
title = "每个头在看哪里"
figures.attention_maps(weights, tokenizer.decode(line), title=title, note=text.note)

# %% [markdown] english="902bd37d"
# 画斜线的一半是未来的位置。对角线旁边亮，说明这个头看的是“前一两个字符”；某一列亮，说明许多位置都回头看那个位置。小图标题里的数，是这 18 个字符里的平均距离。换成完整的窗口：

# %%
whole = validation_ids[: 64 * context].view(-1, context)
weights = weights_of(model, whole).cpu()
places = torch.arange(context)
back = (weights * (places[:, None] - places)).sum(-1).mean((1, 3))
even = places.double().mean() / 2

# %% tags=["nbval-ignore-output"]
heads = [f"头 {h + 1}" for h in range(back.shape[1])]
layers = [f"第 {i + 1} 层" for i in range(len(back))]
print(f"在长 {context} 的窗口里的平均距离；如果注意力平均分配，则为 {even:.1f}")
pd.DataFrame(back, layers, heads).round(1)

# %% [markdown] english="c149575a"
# **注意力图只说明一个头在看哪里，不说明它重不重要。** 要知道它重不重要，就把它关掉，再测损失。hook（钩子：挂在某处，PyTorch 每次执行到那里都会自动调用的函数）可以换掉送进某个部分最后一个矩阵的数值，先换成 0。
#
# > **先猜。** 模型最离不开哪一部分？


# %%
def without(model, linear, channels, put):
    """The loss while channels that enter a linear map are replaced by put(them)."""

    def replaced(_, inputs):
        x = inputs[0].clone()
        x[..., channels] = put(x[..., channels])
        return x

    hook = linear.register_forward_pre_hook(replaced)
    loss = evaluate(model, validation_ids[:20_000])
    hook.remove()
    return loss


# %%
parts, D = {}, spec.model.d_model // spec.model.n_heads
for i, block in enumerate(model.blocks, start=1):
    for h in range(spec.model.n_heads):
        channels = slice(h * D, (h + 1) * D)
        parts[f"第 {i} 层 · 头 {h + 1}"] = block.attention.out, channels
    parts[f"第 {i} 层 · 前馈"] = block.feed_forward.out, slice(None)

# %% tags=["nbval-ignore-output"]
intact = evaluate(model, validation_ids[:20_000])
zero = torch.zeros_like
removed = {name: without(model, *part, zero) for name, part in parts.items()}
title = "把每个部分设为 0，损失升高多少"
figures.parts_removed(removed, intact, title=title, note=text.note)

# %% [markdown] english="8644302a"
# 最离不开的是第一层的前馈网络，远远超过其他部分。但完整模型的损失 1.584 加上 3.162，比均匀猜测的 4.17 还高。只是少了一部分信息，不可能比什么都不知道还差：其余部分是被从没遇到过的输入*误导*了。**均值消融**（mean ablation）的做法想更温和一些：把那一部分固定为它在许多文本上的均值（Wang 等，2022），这里取一千个位置上的均值。


# %% tags=["nbval-ignore-output"]
def at_mean(channels):
    return channels.mean((0, 1))


feed = {name: part for name, part in parts.items() if "前馈" in name}
for name, part in feed.items():
    print(f"{name}：设为 0，损失 +{removed[name] - intact:.2f}", end=", ")
    print(f"设为均值，损失 +{without(model, *part, at_mean) - intact:.2f}")

# %% [markdown] english="c55f34d9"
# 换成均值，第一层前馈网络的代价就变小了，总损失又低于均匀猜测。第二层的代价却*更大*：那个均值，模型同样没有遇到过。一个部分有多重要，两个数都不是*唯一的*答案；报告时要说清用的是哪一种。（各个头留给[练习 4.5](#exercise-4-5-core-20-min)。）而且两个数都只适用于*这个模型*：如果从训练开始就没有这个部分，其他部分会学着承担它的一部分工作（第 5 讲）。
#
# ## 本讲小结
#
# 一个训练循环；一个判断差异是否可信的标准；一个胜过 5-gram 的模型；三种观察模型内部的方法。
#
# ## 思考
#
# **1.** 最初的损失约为 $\ln V$。这个数从哪里来？如果是 6，说明什么？
#
# <details><summary>答案</summary>
#
# 均匀猜测时，V 个字符的概率都是 1/V。如果是 6，说明模型很有把握却猜错了：初始权重太大。 </details>
#
# **2.** 提前停止要看许多次验证集。为什么它报告的损失会略微偏低？
#
# <details><summary>答案</summary>
#
# 它是许多次评估中的最小值，而它最小，部分原因只是在这个验证集上碰巧。 </details>
#
# **3.** 两次训练进行到同一步，一次的学习率在峰值，另一次的衰减已走完一半。哪一次看起来更好？真的更好吗？
#
# <details><summary>答案</summary>
#
# 训练很长时，通常是学习率正在衰减的那次；我们的训练太短，看不出来。等另一次的学习率也降下来，可能反而是它领先：要比较结束时的结果。 </details>
#
# ## 练习
#
# ### 练习 4.1 · 热身 · 10 分钟
#
# 四个循环，每个有一个 bug，却都不报错；它们在同一份文本（只有 11 种字符）上训练同一个小模型。下面是它们报告的损失：先是各自批次上的（*training*），再是留出文本上的（*held out*）。按 A、B、C、D 的顺序写出各是哪种 bug，从这些里选：*targets not shifted*（目标没有错开一位）· *one batch again and again*（总是同一个批次）· *rate too high*（学习率太高）· *rate too low*（学习率太低）· *no zero_grad*（没有 zero_grad）· *weights never move*（权重不变）。
#
# <details><summary>提示 1</summary>
#
# 均匀猜测的损失是 ln 11 = 2.4。哪条曲线高于它，哪条远低于它，又是在哪份文本上？ </details>
#
# <details><summary>提示 2</summary>
#
# 只在批次上低，是把批次背下来了；在新文本上也接近 0，是输入里泄漏了答案。梯度不断累加，一开始看不出毛病。 </details>

# %% tags=["nbval-ignore-output"]
curves = checks.sizes("4.1")


def draw_losses(on):
    lines = {name: curve[on] for name, curve in curves.items()}
    labels, title = ("step", "损失（奈特/字符）"), f"四个 bug 的损失：{on}"
    return figures.lines(range(1, 81), lines, *labels, low=0, title=title)


draw_losses("training")

# %% tags=["nbval-ignore-output"]
draw_losses("held out")

# %% tags=["exercise"]
bugs = ...  # four names, such as ("rate too low", …)

checks.check("4.1", bugs)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def diagnosis(training, held_out):
    if held_out[-1] < 0.3:
        return "targets not shifted"
    if held_out[-1] > training[-1] + 1:
        return "one batch again and again"
    return "rate too high" if max(held_out[:5]) > 3 else "no zero_grad"


bugs = [diagnosis(*curve.values()) for curve in checks.sizes("4.1").values()]

checks.check("4.1", bugs, quiet=True)

# %% [markdown] english="f8148605"
# ### 练习 4.2 · 核心 · 40 分钟
#
# 凭记忆，直接用 PyTorch 写出训练循环。`batches[i]` 的每一行比上下文长一个字符，输入的词元和目标都从这一行里取。每个批次分成 `parts` 份依次计算（`rows.chunk(parts)`，最后一份可能短些），各份的梯度加起来，要等于整个批次平均损失的梯度。裁剪梯度，用 `torch.optim.AdamW(model.parameters())` 以学习率 `rates[i]` 更新一步，然后一次算出 `held_out` 上的损失。模型交给你时处于评估模式，而且有 dropout。
#
# <details><summary>提示 1</summary>
#
# 先写那十行。再加上学习率和梯度裁剪（在 `backward` 和 `step` 之间），最后才分份。 </details>
#
# <details><summary>提示 2</summary>
#
# 每份的损失是平均值：无论求梯度，还是报告损失，都要乘以权重 `len(piece) / len(rows)`。 </details>
#
# <details><summary>提示 3</summary>
#
# 更新之前调用 `model.train()`，测量时用 `model.eval()` 和 `torch.no_grad()`。学习率就是 `optimizer.param_groups[0]["lr"]`。 </details>


# %% tags=["exercise"]
def train(model, batches, held_out, rates, parts, clip_norm):
    """batches: (S, B, T + 1), held_out: (M, T + 1) int64; rates: S floats.

    -> two lists of floats: each batch's loss before its step, held_out's after each step
    """
    ...


checks.check("4.2", train)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def train(model, batches, held_out, rates, parts, clip_norm):
    def loss_on(rows):
        logits = model(rows[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())

    optimizer = torch.optim.AdamW(model.parameters())
    losses, held = [], []
    for rows, rate in zip(batches, rates, strict=True):
        model.train()
        optimizer.zero_grad()
        total = 0.0
        for piece in rows.chunk(parts):
            loss = loss_on(piece) * len(piece) / len(rows)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        losses.append(total)
        model.eval()
        with torch.no_grad():
            held.append(loss_on(held_out).item())
    return losses, held


checks.check("4.2", train, quiet=True)

# %% [markdown] english="9702ec79"
# ### 练习 4.3 · 核心 · 15 分钟
#
# 写出另一种有名的学习率调度。预热与前面相同：第 0 步的比例是 $1/w$，第 $w-1$ 步是 1。然后是半个余弦波，从第 $w$ 步的 1，降到最后一步（即 `steps - 1`）的 `floor`。
#
# <details><summary>提示 1</summary>
#
# 下降进行到几分之几了？在第 $w$ 步是 0，在第 `steps - 1` 步是 1。 </details>
#
# <details><summary>提示 2</summary>
#
# $(1 + \cos \pi x)/2$ 从 1 降到 0。改一改，让它最后降到 `floor`。 </details>


# %% tags=["exercise"]
def cosine(step, steps, warmup_steps, floor):
    """step: 0 … steps - 1 -> the share of the peak rate."""
    ...


checks.check("4.3", cosine)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def cosine(step, steps, warmup_steps, floor):
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    along = (step - warmup_steps) / (steps - 1 - warmup_steps)
    return floor + (1 - floor) * (1 + math.cos(math.pi * along)) / 2


checks.check("4.3", cosine, quiet=True)

# %% [markdown] english="3d32df82"
# ### 练习 4.4 · 核心 · 20 分钟
#
# 只试五次，找到一个好的学习率。`trial(rate)` 训练一个很小的模型，给出留出文本上的损失；最好的学习率每个模型各不相同，在 0.001 和 10 之间。合格的标准：把最好的学习率减半和加倍，得到两个损失，你的损失不高于其中较大的那个。
#
# <details><summary>提示 1</summary>
#
# 学习率要按倍数来比较：在*对数*轴上，三次试验该放在哪里？ </details>
#
# <details><summary>提示 2</summary>
#
# 另外两次，试目前最好的那个学习率的两侧。 </details>


# %% tags=["exercise"]
def best_rate(trial):
    """trial: rate -> loss -> the rate, from at most five trials."""
    ...


checks.check("4.4", best_rate)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def best_rate(trial):
    losses = {rate: trial(rate) for rate in (0.01, 0.1, 1.0)}
    middle = min(losses, key=losses.get)
    for rate in (middle / 10**0.5, middle * 10**0.5):
        losses[rate] = trial(rate)
    return min(losses, key=losses.get)


checks.check("4.4", best_rate, quiet=True)

# %% [markdown] english="3f992229"
# ### 练习 4.5 · 核心 · 20 分钟
#
# 关掉一个头：把它每个通道的值换成这个通道在所有文本和位置上的均值，其余的头不变。用 `x @ W_o` 算出这时注意力写入残差流的内容，并返回。
#
# <details><summary>提示 1</summary>
#
# `heads[:, head]` 的轴是 B、T、D。均值沿其中哪两个轴取？ </details>
#
# <details><summary>提示 2</summary>
#
# 与第 2 讲一样，先交换时间轴和头的轴，再把最后两个轴合成一个。 </details>


# %% tags=["exercise"]
def head_at_its_mean(heads, W_o, head):
    """heads: (B, H, T, D), W_o: (H D, H D), head: 0 … H - 1 -> (B, T, H D)."""
    ...


checks.check("4.5", head_at_its_mean)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def head_at_its_mean(heads, W_o, head):
    heads = heads.clone()
    heads[:, head] = heads[:, head].mean((0, 1))
    return heads.transpose(1, 2).flatten(-2) @ W_o


checks.check("4.5", head_at_its_mean, quiet=True)

# %% tags=["nbval-ignore-output"]
costs = {}
for name in parts.keys() - feed.keys():
    at_its_mean = without(model, *parts[name], at_mean)
    costs[name] = {"设为 0": removed[name] - intact, "设为均值": at_its_mean - intact}
pd.DataFrame(costs).T.sort_index().round(3)

# %% [markdown] english="10bfe246"
# ### 练习 4.6 · 核心 · 10 分钟
#
# 自己实现梯度裁剪。把所有的梯度看作*一个*长向量：如果它的长度超过 `limit`，就乘以同一个系数，把它缩短到 `limit`。梯度可能全是 0。
#
# <details><summary>提示 1</summary>
#
# 长度：先平方，对所有张量求和，再开一次根号。 </details>
#
# <details><summary>提示 2</summary>
#
# 系数最大是 1，而且任何时候都不能除以 0。 </details>


# %% tags=["exercise"]
def clip(gradients, limit):
    """gradients: a list of tensors -> a list of tensors."""
    ...


checks.check("4.6", clip)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def clip(gradients, limit):
    length = math.sqrt(sum(g.square().sum().item() for g in gradients))
    factor = limit / length if length > limit else 1.0
    return [g * factor for g in gradients]


checks.check("4.6", clip, quiet=True)

# %% [markdown] english="0eacbb01"
# ### 练习 4.7 · 挑战 · 60 分钟
#
# 自己实现 AdamW，结果要与 PyTorch 的一致。维护梯度的均值（旧值占 $\beta_1$）和梯度平方的均值（旧值占 $\beta_2$），都从 0 开始；它们起初偏小，所以在第 $t = 1, 2, \dots$ 步使用时，要分别除以 $1 - \beta^t$（存下来的值不变）。每一步先把权重缩小 `rate` × `weight_decay` 这个比例，再沿下降方向移动 `rate` × 均值 /（√均方 + `eps`）。
#
# <details><summary>提示 1</summary>
#
# 第 1 步，修正之后的均值就等于梯度，均方的平方根就等于梯度的大小。 </details>
#
# <details><summary>提示 2</summary>
#
# 权重衰减不经过梯度，直接作用在权重上。名字里的 W 说的就是这个。 </details>


# %% tags=["exercise"]
def adamw(weight, gradients, rate, betas, eps, weight_decay):
    """weight: a tensor, gradients: a list of such, one a step -> the last weight."""
    ...


checks.check("4.7", adamw)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def adamw(weight, gradients, rate, betas, eps, weight_decay):
    mean, mean_square = torch.zeros_like(weight), torch.zeros_like(weight)
    for t, gradient in enumerate(gradients, start=1):
        mean = mean.lerp(gradient, 1 - betas[0])
        mean_square = mean_square.lerp(gradient.square(), 1 - betas[1])
        size = (mean_square / (1 - betas[1] ** t)).sqrt() + eps
        update = mean / (1 - betas[0] ** t) / size
        weight = weight * (1 - rate * weight_decay) - rate * update
    return weight


checks.check("4.7", adamw, quiet=True)

# %% [markdown] english="4830c011"
# ## 自测
#
# 先选，再展开答案。
#
# **1.** 训练损失在下降，验证损失已经连续五次评估上升。你会…… (a) 继续训练 · (b) 取验证损失最低时的权重 · (c) 提高学习率。
#
# <details><summary>答案</summary>
#
# (b)。(a) 会把文本背下来。(c) 只会更快地走到同样的结果。 </details>
#
# **2.** 你关掉一个头，损失几乎不变。这说明…… (a) 这个头没用 · (b) 现在即使没有它，其余部分也能应付 · (c) 模型的头太多。
#
# <details><summary>答案</summary>
#
# (b)。(a) 别的文本也许需要它，或者另一个头做着同样的事。(c) 要另外*训练*头数更少的模型：第 5 讲。 </details>
#
# **下一讲**：[5 · 消融实验](05_ablation.ipynb)：模型越深越好吗？怎样才能确定？
