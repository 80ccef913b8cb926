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

# %% [markdown] english="5c9f9a0c"
# # 4 · 训练：从噪声到诗句
#
# 第 3 讲借给你一个训练循环。这一讲由你亲手来写：衡量其中每个选择值多少，看着噪声变成诗句，直到自己的模型把 5-gram 甩在身后；然后再打开模型，看看里面。

# %% [markdown] english="f5172bdd"
# **你将学会**：凭记忆写出训练循环 · 找到合适的学习率 · 看曲线说出是哪种 bug · 分清差异和运气 · 精确地测量损失，并适时停下 · 说出模型里的某个头在做什么。
#
# **需要**：[第 3 讲](03_model.ipynb)和 [二十行 PyTorch](../../book/zh/pytorch.md)。**时间：** 阅读一小时；在笔记本电脑上计算四分钟，用 GPU 更快；做到核心练习为止两小时。

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

# %% [markdown] english="a39473c1"
# ## 要超过的损失
#
# 文本照第 1 讲的方式切分；损失记录的开头，是第 1 讲那些计数模型在验证集上的损失。第 2、3 讲加进了几乎没训练过的模型，这一讲加进训练好的。

# %% tags=["nbval-ignore-output"]
text, profile, device = corpus.load(), profiles.current(), profiles.device()
print(text.describe(), f"\n运行档 {profile.name}，设备 {device.type}")
tokenizer = CharTokenizer(text.text)
ids = torch.tensor(tokenizer.encode(text.text), device=device)
train_ids, validation_ids = split(ids)
baselines = baseline_losses(text.text)
pd.Series(baselines, name="nats/character").round(3).to_frame()

# %% [markdown] english="8f8c00c6"
# ## 训练，十行就够
#
# 先看训练本身：一个小模型（两层、64 个通道、上下文长度 32、旋转位置编码），一个优化器，一个由五个动词组成的循环：取一个批次，预测，算损失，求梯度，走一步。

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

# %% [markdown] english="0565f734"
# 损失从大约 ln 65 = 4.17（均匀瞎猜）朝二元语法的水平下降。`backward` 是把梯度*加*到已有的梯度上，所以要先调用 `zero_grad`。（*裁剪*下面再讲。）这几行写错了也不会报错：[练习 4.1](#exercise-4-1-warm-up-10-min) 给出四条曲线。亲手写出这几行，就是本讲的主要练习 [4.2](#exercise-4-2-core-40-min)。
#
# ## 一步走多远，又有多少是运气
#
# 最要紧的是学习率。为了试它，把那十行写成一个函数。一个随机种子决定初始权重和所有批次，所以同一种子的两次试验，差别只在你改动的地方。（`share` 逐步缩放学习率，暂时都是 1。）

# %%
steps = 2 * profile.demo_steps
seeds = range(3)
windows = get_batch(validation_ids, profile.demo_windows, 32, torch.Generator().manual_seed(1))


def steady(step):
    return 1.0


def adamw(model, rate):
    return torch.optim.AdamW(model.parameters(), lr=rate)


@torch.no_grad()
def held_out_loss(model):
    """The loss on the same windows of held-out text each time."""
    tokens, targets = windows
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()).item()


# %%
def attempt(rate, seed=0, make=adamw, share=steady, ids=train_ids, steps=steps):
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


# %% [markdown] english="cf61f440"
# 七个学习率，每个用三个种子。
#
# > **先猜。** 画出最终损失随学习率变化的曲线。同一学习率下，三个种子相差多远？

# %% tags=["nbval-ignore-output"]
rates = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
bar = tqdm(rates, "rates", leave=False)
trials = {rate: [attempt(rate, seed) for seed in seeds] for rate in bar}
final = {rate: [held[-1] for _, _, held in three] for rate, three in trials.items()}

# %% tags=["nbval-ignore-output"]
by_seed = {f"种子 {seed}": [final[rate][seed] for rate in rates] for seed in seeds}
labels = ("学习率（对数刻度）", "留出文本上的损失（奈特/字符）")
title = "训练后的损失与学习率"
figures.lines(rates, by_seed, *labels, baselines, log_x=True, title=title, note=text.note)

# %% [markdown] english="32c01636"
# 像一只碗，两边都很陡。而运气也有大小。从这里起，差异算不算数，只用*同一个标准*来判定：按种子逐对比较各次试验，给平均差一个 95% 置信区间；三个种子时，它是差值标准差的 ±2.5 倍（见第 5 讲）。区间里有 0，就不要去找原因。


# %%
def compared(losses):
    """losses: name -> a loss a seed. Each row against the first, seed by seed."""
    table = pd.DataFrame(losses, index=[f"种子 {seed}" for seed in seeds]).T
    differences = table.sub(table.iloc[0])
    mean, margin = differences.mean(axis=1), 2.5 * differences.std(axis=1)
    table["差值"], table["± (95 %)"] = mean, margin
    table["算数"] = (mean.abs() > margin).map({True: "是", False: "否"})
    table.loc[table.index[0], "算数"] = "–"
    return table.round(3)


# %% tags=["nbval-ignore-output"]
best = min(rates, key=lambda rate: sum(final[rate]))
near = sorted(rates, key=lambda rate: sum(final[rate]))[:4]
compared({f"学习率 {rate:g}": final[rate] for rate in near})

# %% tags=["nbval-ignore-output"]
noisy = {f"学习率 {rate:g}": trials[rate][0][1] for rate in (1e-4, best, 1e-1)}
smooth = pd.DataFrame(noisy).ewm(span=10).mean()  # recent ones weigh most
labels = ("step", "训练损失（奈特/字符）")
title = "太低、正好、太高（十步平滑）"
figures.lines(range(1, steps + 1), smooth, *labels, baselines, title=title, note=text.note)

# %% [markdown] english="3b494491"
# 最好的学习率，各种子相差不到 0.03 奈特；学习率高到三倍，相差就到 0.12：噪声的大小并不固定。学习率降到三分之一，损失只高一点；升到三倍，就高得多；两个差异都算数。图里，学习率太低时曲线平滑，到最后还在下降；太高时先跳到均匀分布的损失之上，再落下来，然后一直*悬*在远高于最好结果的地方。
#
# ## 往哪个方向走
#
# 普通的 **SGD** 沿着梯度走，所有权重用同一个学习率。**动量（momentum）** 沿着一个逐渐淡忘的梯度之和走（PyTorch 里取 0.9 时，最多是单个梯度的十倍长）：在批次之间变号的部分会相互抵消。**AdamW** 给每个权重自己的步长：近期梯度的均值，除以它们均方的平方根（Kingma 和 Ba，2015）。它的**权重衰减（weight decay）** 把权重轻轻拉向 0，与梯度分开（Loshchilov 和 Hutter，2019）。这里给 SGD 加上动量，并在三个学习率里取最好的。


# %% tags=["nbval-ignore-output"]
def sgd(model, rate):
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)


by_sgd = [[attempt(r, s, sgd)[2][-1] for s in seeds] for r in tqdm((0.1, 0.3, 1.0), leave=False)]
compared({"AdamW": final[best], "SGD，动量": min(by_sgd, key=sum)})

# %% [markdown] english="97bf84e8"
# 差别很明显：200 步，SGD 取三个学习率（代码里的 0.1、0.3 和 1.0）中最好的，AdamW 取七个中最好的。这张表没有说为什么。有一种解释别人检验过：梯度下降会把少见的词落在后面（Kunstner 等，2024）。
#
# **看什么。** 看梯度的长度，以及一步让权重移动了它们自身的几分之几：经验法则说，约千分之一（Karpathy，2015）。


# %%
def length(tensors):
    """Of all numbers in all tensors, as one long vector."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors]).norm().item()


# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
model = GPT(small).to(device)
optimizer, draw, watched = adamw(model, best), torch.Generator().manual_seed(0), []
for _ in range(steps):
    tokens, targets = get_batch(train_ids, 16, 32, draw)
    loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    moved = length([p - b for p, b in zip(model.parameters(), before, strict=True)])
    gradient = length([p.grad for p in model.parameters()])
    watched.append({"gradient": gradient, "update / weights": moved / length(before)})
shown = sorted({0, 1, 2, steps // 20, steps // 4, steps // 2, steps - 1})
table = pd.DataFrame(watched, index=range(1, steps + 1)).rename_axis("step")
table.iloc[shown].round(4)

# %% [markdown] english="a5844bd7"
# 最初几步让权重移动百分之几，后来的不到百分之一：比经验法则大；不过这次训练很短，学习率又一直停在峰值。
#
# ## 一个古怪的批次
#
# **梯度裁剪（clipping）** 把超过上限的梯度缩短（Pascanu 等，2013）。AdamW 本来就会除以梯度的大小，裁剪还有用吗？让你刚才观察的那个模型遇上一批胡话：答案永远是最少见的那个字符；之后又都是正常的批次。
#
# > **先猜。** 那个批次让损失升高多少？裁剪与不裁剪，当时和二十步之后各是多少？（先跑一个从没遇到它的副本。）

# %% tags=["nbval-ignore-output"]
strange = torch.full_like(
    targets, train_ids.bincount(minlength=tokenizer.vocab_size).argmin().item()
)
print(f"遇到古怪批次之前：{held_out_loss(model):.3f}")
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
            print(f"{'strange' if meets_it else 'good'} 批次，裁剪到 {limit}：", end=" ")
            print(f"梯度 {norm:.2f}，{i} 步之后 {held_out_loss(copied):.3f}")

# %% [markdown] english="e768a583"
# 不裁剪，这一个批次当即让损失升高近十分之一奈特，二十步之后，那个副本仍落后于第一个；裁剪到 1 的已经追上。（打印的是裁剪之前的梯度。只有一个种子；裁剪到 0.1 时，正常的梯度也会被裁剪，而我们猜想，AdamW 除的仍是先前那些较长梯度的大小。）刚开始的 AdamW，第一步感觉不到裁剪：那时均值除以均方根就是 $g/|g|$，一个符号。到了后来，一个巨大的梯度会留在两个滑动平均里，裁剪把它挡在外面。
#
# ## 一次训练的设置
#
# 决定一次训练结果的所有设置都放在一处。默认值就是原始方案 `baseline`；预热、衰减、耐心值和 Muon，下面各有一节。


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


# %% [markdown] english="34919e74"
# ## 什么时候走多远
#
# 刚开始的 AdamW，均值里只有一两个梯度，所以学习率先用几步爬上去，这叫**预热（warm-up）**（Goyal 等，2017）；然后保持不变，最后下降。（也可以沿余弦下降：Loshchilov 和 Hutter，2017，以及[练习 4.3](#exercise-4-3-core-15-min)。）函数给出的是峰值的*比例*。
#
# 四种学习率安排，峰值都比稳妥的略高：


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
labels, title = ("step", "峰值的比例"), "四种学习率安排"
figures.lines(range(1, steps + 1), shapes, *labels, title=title)

# %% [markdown] english="b7009a84"
# 没有一行算数。竖着看：只看种子 1，这一讲会夸预热；只看种子 2，会告诫你别用衰减。这不证明学习率安排没有用：推荐它们的人测的是长得多的训练。
#
# ## 精确地测量
#
# 到现在为止，留出文本上的损失都取自 512 个窗口。整个验证集也不过十万来次预测，那就全部做完：窗口首尾相接，除第一个字符外，每个字符恰好预测一次，dropout 关掉。


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
for name, n in {"一批 16": 16, "512": 512, "200 批 × 64": 12_800}.items():
    error = by_window.std() / math.sqrt(n)
    print(f"{name:>17} 个窗口：±{error:.4f}（标准误）")

# %% [markdown] english="f8525bf7"
# 单个批次通常偏差百分之几奈特，我们的 512 个窗口约偏差百分之一。[nanoGPT](https://github.com/karpathy/nanoGPT) 的 200 批 × 64 能准到 0.002，而读的字符比整个验证集还多。*精确*的意思是：对这十分之一、照这种切法是精确的；这十分之一本身只是一个样本。
#
# ## 为什么验证损失又升了上去
#
# > **先猜。** 文本少，步数多：训练用的文本上的损失，和从没见过的文本上的损失，各会怎样？

# %%
few = train_ids[:10_000]
_, losses, held = attempt(best, ids=few, steps=3 * steps)
tenth = len(losses) // 10
x = range(tenth, 10 * tenth + 1, tenth)
seen = [sum(losses[i - tenth : i]) / tenth for i in x]

# %% tags=["nbval-ignore-output"]
curves = {"trained on": seen, "held out": held}
labels = ("step", "损失（奈特/字符）")
title = "同一章，反复读"
figures.lines(x, curves, *labels, baselines, title=title, note=text.note)

# %% [markdown] english="1d56bf59"
# 起初两个都下降：模型学到的东西，对所有这类文本都成立。后来它开始把*这一份*文本背下来，这就是**过拟合（overfitting）**：背下来的东西换个地方就不成立，而交叉熵对“有把握却错了”罚得最重。dropout（Srivastava 等，2014；第 3 讲）和更多的文本都能推迟它。
#
# **提前停止（early stopping）**（Prechelt，1998）等几次评估，若没有新的最好成绩，就退回到最好的权重。耐心值为二时，下面打印的最后一行是哪一行？


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
    print(loss, said, "停下" if stopping.should_stop else "")
    if stopping.should_stop:
        break

# %% [markdown] english="8aa56ca0"
# 持平不算变好：注意第二个 2.4。2.3 本来是会来的：耐心值是一次下注。（验证损失甚至可能很久以后再降一次：Nakkiran 等，2020。）
#
# ## 完整的循环
#
# 只差两样，零件就齐了，到时候就该做[练习 4.2](#exercise-4-2-core-40-min) 了。批次大到内存放不下时，分成几份来读：每份的损失乘以它占的行数比例，`backward` 会把梯度加起来。模型里有 dropout 时，走一步之前调用 `model.train()`，测量之前调用 `model.eval()`。这里的模型，是第 5 讲实验里最小的那个：

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

# %% [markdown] english="e6d2f576"
# 评估时要做的事单独放，好让循环在一页里放得下：`write` 写出一段样例（第 6 讲），`report` 用同一种精确的测法取两个损失。


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
for step in tqdm(range(config.steps), "steps", leave=False):
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
model.load_state_dict(kept)  # back to the best
speed = (step + 1) * tokens.numel() / seconds
print(f"最好的验证损失 {stopping.best:.3f} 奈特/字符", end=", ")
print(f"每秒 {speed:,.0f} 个字符，{tokens.device.type} float32")

# %% [markdown] english="edb859d3"
# 虚线是训练集开头 20,000 个字符上的损失，到目前大多在验证损失之上。（两份文本不同；对这么年轻的模型，也许那 20,000 个字符更难：这是猜测。）那么它*写*出了什么？每次用的是同一份运气：

# %% tags=["nbval-ignore-output"]
for step, written in samples.items():
    print(f"--- 第 {step} 步\n{written}\n")

# %% [markdown] english="2255ffba"
# 噪声已经有了词的样子；要看到诗句，还得等完整的训练。
#
# ## Muon：只看一个矩阵
#
# `laptop` 这份训练配方还有一招。矩阵把它的每个方向各拉伸一个倍数，这个倍数叫**奇异值（singular value）**。**Muon** 把各块中每个矩阵的动量变成*正交*的，奇异值全为 1，于是每个方向移动得一样多。为什么这有帮助，作者只给出猜想：更新里很小的、少见的方向，对学习很重要（Jordan 等，2024）。
#
# $1.5 x - 0.5 x^3$ 把 0 到 1 之间的任何 $x$ 推近 1，而 $1.5 X - 0.5 X X^\top X$ 对矩阵的每个奇异值做同样的事，并不需要知道这些奇异值。（任何矩阵都是先转一下，沿坐标轴拉伸，再转一下：$X = U S V^\top$，奇异值在 $S$ 的对角线上。转过去又转回来等于没转，$U^\top U = V^\top V = 1$，所以在 $X X^\top X = U S V^\top\, V S U^\top\, U S V^\top$ 里，中间的都消掉，剩下 $U S^3 V^\top$。）反复这样做，就是 **Newton–Schulz 迭代**。五个多项式 $a x + b x^3 + c x^5$ 更快，每一个都是对付前一个剩下部分的最佳选择（Amsel 等，2025）：


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
# 这是你的循环里某个矩阵的最后一个梯度。
#
# > **先猜。** 哪些奇异值最难推到 1？

# %% tags=["nbval-ignore-output"]
gradient = model.blocks[0].attention.out.weight.grad.cpu()
ways = {"之前": gradient / torch.linalg.matrix_norm(gradient, 2)}
ways |= {f"{n} 次迭代": orthogonal(gradient, n) for n in (3, 5)}
values = {}
for name, matrix in ways.items():
    values[name] = torch.linalg.svdvals(matrix)
    half = values[name][: len(gradient) // 2]
    print(f"{name:>12}，较强的一半：{half.min():.2f} … {half.max():.2f}")
labels = ("方向的排名", "奇异值")
x, title = range(1, len(gradient) + 1), "梯度的各个方向，之前和之后"
figures.lines(x, values, *labels, title=title)

# %% [markdown] english="143cd37e"
# 之前，少数方向很强，多数几乎为零。最弱的最难：一次迭代只能把很小的值乘上它的 `a`，不会更多。五次迭代把较强的一半带到 0.43 … 1.00。`laptop` 为了省计算只取三次，这一半停在 0.09 … 1.65：更接近相等，但不相等。
#
# 最后是大小。方阵形的正交更新，保持输入的长度不变。高的矩阵把它分给更多的输出，所以每个输出移动得少。宽的矩阵只保留一部分，但分享它的输出也少，所以每个移动得和方阵一样：

# %%
for rows, columns in ((64, 64), (256, 64), (64, 256)):
    draw = torch.Generator().manual_seed(1)
    update = orthogonal(torch.randn(rows, columns, generator=draw))
    moved = update @ torch.randn(columns, 1000, generator=draw)
    factor = max(1.0, rows / columns) ** 0.5
    print(f"{rows:3} × {columns:3}：每个输出移动 {moved.std():.2f}", end=", ")
    print(f"乘上倍数 {factor:.0f}：{moved.std() * factor:.2f}")

# %% [markdown] english="d14bb781"
# 给高的矩阵乘上 √(行数 / 列数)，同一个学习率就能让这三种矩阵的输出移动得一样多。
#
# ## 一般形式
#
# 软件包把同一形状的所有矩阵一起处理。浏览一下即可。（`baddbmm` 把加法和批量乘法合在一起；在 GPU 上 16 位就够。）


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


# %% [markdown] english="b9bcddad"
# Muon 移动各块里的矩阵，其余归 AdamW。而且只有矩阵才衰减：增益的自然位置是 1；到了 0，它那个通道就关掉了。


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


# %% [markdown] english="f323d7d4"
# 循环里的一步，加上两样东西。`rate` 是每个优化器自己峰值的比例。批次大到内存放不下时，按 `micro_batches` 分几份来读，每份按它占的行数计。取默认值时，它就是那个普通的一步（第三个单元格）。


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
    optimizer = adamw(fresh, best)
    if micro_batches is None:
        F.cross_entropy(fresh(tokens).flatten(0, 1), targets.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(fresh.parameters(), 1.0)
        optimizer.step()
    else:
        optimizer.param_groups[0]["peak"] = best
        training_step(fresh, [optimizer], tokens, targets, 1.0, 1.0, None, micro_batches)
    after.append(next_character_loss(fresh, tokens, targets).item())
assert max(after) - min(after) < 1e-4, "怎么写都是同样的一步"
same = torch.allclose(orthogonalise(gradient[None])[0], orthogonal(gradient), atol=1e-3)
assert same, "所有矩阵一起，或一个一个"

# %% [markdown] english="e32fa1dd"
# 那么，Muon 在这里更好吗？两者都用不变的学习率：


# %% tags=["nbval-ignore-output"]
def by(kind, seed):
    config = TrainConfig(optimizer=kind, learning_rate=best, seed=seed)
    torch.manual_seed(seed)
    model, draw = GPT(small).to(device), torch.Generator().manual_seed(seed)
    optimizers = make_optimizers(model, config)
    for _ in range(steps):
        training_step(model, optimizers, *get_batch(train_ids, 16, 32, draw), rate=1.0)
    return held_out_loss(model)


kinds = tqdm(("adamw", "muon"), "optimisers", leave=False)
compared({kind: [by(kind, seed) for seed in seeds] for kind in kinds})

# %% [markdown] english="19383983"
# 更好：按本讲的标准，以每步的损失论。（这里的 *adamw* 与第一张表的不完全一样：*betas* 不同（它们决定两个均值淡忘得多快）；增益不衰减；有裁剪。）
#
# ## 完整的训练
#
# 这台机器用的训练配方。那些零碎的数字，是在验证集上试出来的最好结果（[日志](../../book/log.md)）。如果你或者课程以前跑过一模一样的训练，就从磁盘读取；否则在笔记本电脑上要几分钟。（网页版里的[游乐场](../../book/zh/playground.md)会在浏览器里训练同一份配方，从同一个种子开始，一边学一边写。）

# %% tags=["nbval-ignore-output"]
print(spec.train)
model, record = runs.small_model(text, device)
curve = pd.DataFrame(record.history).assign(arm=record.arm, seed=record.seed)
figures.training_curves(curve, baselines, note=text.note)

# %% [markdown] english="96439e98"
# 这里的虚线是最近几个批次的平均损失，不花额外的计算，但会滞后。验证损失只测了一次：一个单独的点。（软件包的训练器就是你的循环，多了计时和进度条。它为提前停止只读验证集的一半，好让另一半没有参与过任何选择：第 5 讲。）用同一种测法：

# %% tags=["nbval-ignore-output"]
loss = evaluate(model, validation_ids)
assert abs(loss - record.validation_loss) < 2e-3, "磁盘上的就是最好的权重"
begin = evaluate(model, train_ids[: len(validation_ids)])
print(f"训练集的前十分之一：{begin:.3f} 奈特/字符")
print(f"验证集：{loss:.3f} 奈特/字符")
print(write(model, text.fitting_prompt(), 200))
for name in ("5-gram", "Kneser–Ney"):
    if name in baselines:
        print(f"{name}：{baselines[name]:.3f}，模型与它相差 {loss - baselines[name]:+.3f}")
order = 5 if "5-gram" in baselines else 2  # five are too many for a very large alphabet
tables = WittenBell(train_ids.cpu(), order, tokenizer.vocab_size).tables
counts = sum(len(grams) for grams, *_ in tables)
print(f"{order}-gram 模型存了 {counts:,} 个计数，", end=" ")
print(f"你的模型有 {count_parameters(model):,} 个权重。")

# %% [markdown] english="4b603769"
# **它是背下来的吗？** 它在训练文本上的损失更低，但也许那份文本本来就更容易。计数模型可以回答：依次留出每个十分之一，统计其余九份，看损失是多少。

# %%
tenths = ids.cpu().chunk(10)
costs = []
for i, left_out in enumerate(tenths):
    rest = torch.cat([*tenths[:i], *tenths[i + 1 :]])
    counter = WittenBell(rest, order, tokenizer.vocab_size)
    costs.append(counter.loss(left_out))

# %% tags=["nbval-ignore-output"]
labels = ("留出的那个十分之一", "它的损失（奈特/字符）")
title = "对计数模型来说，每个十分之一有多难？"
print(f"最后一份比第一份高：计数模型 {costs[-1] - costs[0]:.2f}", end=", ")
print(f"你的模型 {loss - begin:.2f} 奈特/字符")
figures.lines(range(1, 11), {"计数模型": costs}, *labels, title=title, note=text.note)

# %% [markdown] english="5de7f15b"
# 没有一个计数模型读过用来测它的那十分之一；而最后那份，也就是我们的验证集，是所有里面最难的。从第一份到最后一份，计数模型的差距就有你的模型差距的大半。所以差距多半来自文本，留给“背下来”去解释的不多。
#
# ## 损失记录
#
# *ten lines* 那一行是最好学习率的 200 步，用 512 个窗口测的；其余都是精确的。上下文长度不同，损失就不能比。最好的计数模型一直领先到第 5 讲。

# %% tags=["nbval-ignore-output"]
lines = {"ten lines": final[best][0], "your loop": stopping.best, "2 layers": loss}
log = pd.DataFrame({"nats/character": baselines | lines})
read = {"ten lines": small.context_length, "your loop": context, "2 layers": context}
log["context"] = pd.Series(read, dtype="Int64")
log["perplexity"] = log["nats/character"].map(math.exp)
log.round(3)

# %% tags=["nbval-ignore-output"]
figures.loss_bars(log["nats/character"].to_dict(), note=text.note)

# %% [markdown] english="f75f84b4"
# ## 看看里面
#
# **它往回看多远？** 把损失按在上下文中的位置拆开。
#
# > **先猜。** 在第一个位置，它只读了一个字符。那它相当于第 1 讲的哪个模型？

# %% tags=["nbval-ignore-output"]
losses = token_losses(model, validation_ids)
by_place = losses[: len(losses) // context * context].view(-1, context)
means, errors = by_place.mean(0), by_place.std(0) / math.sqrt(len(by_place))
print(f"第一个位置：{means[0]:.2f} ± {2 * errors[0]:.2f}，二元语法 {baselines['bigram']:.2f}")
title = "每多读一个字符值多少"
figures.loss_by_position(means, baselines, errors, title=title, note=text.note)

# %% [markdown] english="f771d6bb"
# 在第一个位置，它比二元语法还差，差得超出了误差带。（猜测：训练时 128 个位置里只有一个是第一个。）大约十个位置之内，它就追到了 5-gram；过了几十个，多得到的就淹没在误差带里了。每个窗口都从难的位置开始：这就是为什么上下文长度不同，损失不能比。
#
# **各个头在看哪里？** 第 2 讲的那些权重，从每一层工作时取出，用的是模型没见过的一行。


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

# %% [markdown] english="b70290a7"
# 画斜线的一半是未来。对角线旁边亮，是“前一两个字符”；一列亮，是许多位置都回头去看的地方。每个标题里的数，是在这 18 个字符里的平均距离。换成完整的窗口：

# %%
whole = validation_ids[: 64 * context].view(-1, context)
weights = weights_of(model, whole).cpu()
places = torch.arange(context)
back = (weights * (places[:, None] - places)).sum(-1).mean((1, 3))
even = places.double().mean() / 2

# %% tags=["nbval-ignore-output"]
heads = [f"第 {h + 1} 头" for h in range(spec.model.n_heads)]
layers = [f"第 {i + 1} 层" for i in range(spec.model.n_layers)]
print(f"在长 {context} 的窗口里的平均距离；不加选择的头：{even:.1f}")
pd.DataFrame(back, layers, heads).round(1)

# %% [markdown] english="7286a83e"
# **图告诉你一个头看哪里，没告诉你它重不重要。** 想知道重不重要，就把它关掉再测。一个 hook 改变进入那个线性映射的内容，各部分正是通过它写进残差流的；先改成 0。
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
        parts[f"第 {i} 层 · 第 {h + 1} 头"] = block.attention.out, channels
    parts[f"第 {i} 层 · 前馈"] = block.feed_forward.out, slice(None)

# %% tags=["nbval-ignore-output"]
intact = evaluate(model, validation_ids[:20_000])
zero = torch.zeros_like
removed = {name: without(model, *part, zero) for name, part in parts.items()}
title = "把每个部分设为 0，模型损失多少"
figures.parts_removed(removed, intact, title=title, note=text.note)

# %% [markdown] english="da561b39"
# 差得最多的，是缺了第一层的前馈网络，远远超过其他。但要注意高度：1.584 + 3.162 比均匀瞎猜的 ln 65 = 4.17 还差。缺一样东西，不会比什么都不知道更差：是其余部分被从没遇到过的输入*误导*了。**均值消融（mean ablation）** 想做得温和些：让那一部分停在它对许多文本的均值上（Wang 等，2022），这里是对一起读入的一千个位置取均值。


# %% tags=["nbval-ignore-output"]
def at_mean(channels):
    return channels.mean((0, 1))


feed = {name: part for name, part in parts.items() if "前馈" in name}
for name, part in feed.items():
    print(f"{name}：设为 0，+{removed[name] - intact:.2f}", end=", ")
    print(f"设为均值，+{without(model, *part, at_mean) - intact:.2f}")

# %% [markdown] english="01521f57"
# 停在均值上，第一个网络的代价小了，总和又低于均匀瞎猜。第二个的代价却*更大*：那个均值，模型也没遇到过。两个数都不是一个部分*唯一的*价值；要说清你取的是哪一个。各个头留给[练习 4.5](#exercise-4-5-core-20-min)。而且两种测法量的都是*这个模型里*的一个部分：训练时就没有它，其他部分会学会它的一些活儿（第 5 讲）。
#
# ## 你搭起了什么
#
# 一个训练循环，带学习率安排、梯度裁剪、精确评估和提前停止；一个衡量运气的标准；一个胜过 5-gram 的模型；还有三件往里看的工具。
#
# ## 思考
#
# **1.** 最初的损失约为 $\ln V$。这个数从哪里来？如果是 6，说明什么？
#
# <details><summary>答案</summary>
#
# 均匀瞎猜给 V 个字符每个 1/V。最初的损失是 6，说明模型有把握却错了：初始权重太大。 </details>
#
# **2.** 提前停止要看验证集许多次。为什么它报告的损失会偏好一点？
#
# <details><summary>答案</summary>
#
# 它是许多个里最小的，而“最小”有一部分是在这个验证集上的运气。 </details>
#
# **3.** 两次训练走到同一步，一次还在峰值学习率，一次衰减到一半。哪次看起来更好？真的更好吗？
#
# <details><summary>答案</summary>
#
# 训练够长时，通常是正在衰减的那次；我们的太短，看不出来。另一次等到也衰减了，也许会领先。所以比终点，不要比中途。 </details>
#
# ## 练习
#
# ### 练习 4.1 · 热身 · 10 分钟
#
# 四个循环在一份只有 11 种字符的文本上训练同一个小模型，每个都有一个 bug，却都不报错。下面的单元格画出每个循环报告的损失：在批次上的，和在留出文本上的。按 A、B、C、D 的顺序说出 bug。从这些里选：*targets not shifted*（目标没有错开一位）· *one batch again and again*（总是同一个批次）· *rate too high*（学习率太高）· *rate too low*（学习率太低）· *no zero_grad*（没有 zero_grad）· *weights never move*（权重不动）。
#
# <details><summary>提示 1</summary>
#
# 11 个字符里均匀瞎猜，损失是 ln 11 = 2.4。什么在它之上，什么远在它之下，又是在哪份文本上？ </details>
#
# <details><summary>提示 2</summary>
#
# 只在批次上低，是背下来了；在新文本上接近 0，是题目里就有答案。越加越大的梯度，开头看不出毛病。 </details>

# %%
curves = checks.sizes("4.1")


def draw_losses(on):
    lines = {name: curve[on] for name, curve in curves.items()}
    labels, title = ("step", "损失（奈特/字符）"), f"四个 bug：损失，{on}"
    return figures.lines(range(1, 81), lines, *labels, low=0, title=title)


draw_losses("training")

# %%
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

# %% [markdown] english="a97a67bb"
# ### 练习 4.2 · 核心 · 40 分钟
#
# 重头戏：凭记忆用普通的 PyTorch 写训练循环。`batches[i]` 的每一行比上下文长一个字符，所以词元和目标都从中取。每个批次都当作放不下，分成 `parts` 份来读（`rows.chunk(parts)`，最后一份可能短些），各份的梯度加起来等于整个批次平均损失的梯度。先裁剪，再用 `torch.optim.AdamW(model.parameters())` 以学习率 `rates[i]` 走一步，然后一次算出在 `held_out` 上的损失。模型交给你时处于评估模式，而且有 dropout。
#
# 检查会把每个损失与软件包的对比。
#
# <details><summary>提示 1</summary>
#
# 先写那十行，批次不分份。再加学习率，再加裁剪（在 `backward` 和 `step` 之间），最后才分份。 </details>
#
# <details><summary>提示 2</summary>
#
# 一份的损失是平均值。无论在梯度里，还是在报告的损失里，它都按 `len(piece) / len(rows)` 计。 </details>
#
# <details><summary>提示 3</summary>
#
# 走一步之前 `model.train()`，测量前后用 `model.eval()` 和 `torch.no_grad()`。学习率在 `optimizer.param_groups[0]["lr"]` 里。 </details>


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

# %% [markdown] english="3070953a"
# ### 练习 4.3 · 核心 · 15 分钟
#
# 写出另一种有名的学习率安排。预热照本讲的：第 0 步的比例是 $1/w$，第 $w-1$ 步是 1。然后是半个余弦波：从第 $w$ 步的 1，降到最后一步（即 `steps - 1`）的 `floor`。
#
# <details><summary>提示 1</summary>
#
# 下降进行到几分之几了？找一个数：在第 $w$ 步是 0，在第 `steps - 1` 步是 1。 </details>
#
# <details><summary>提示 2</summary>
#
# $(1 + \cos \pi x)/2$ 从 1 降到 0。把它拉伸到 `floor` 和 1 之间。 </details>


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

# %% [markdown] english="d3c89b12"
# ### 练习 4.4 · 核心 · 20 分钟
#
# 试五次，找到一个好的学习率。`trial(rate)` 训练一个很小的模型，给出留出文本上的损失；最好的学习率在 0.001 和 10 之间，每个模型各不相同。算找到的标准：损失不高于最好学习率的一半或两倍处的损失（两者取较差的）。
#
# <details><summary>提示 1</summary>
#
# 学习率之间差的是倍数。在*对数*轴上，三次试验该放在哪里？ </details>
#
# <details><summary>提示 2</summary>
#
# 损失对学习率像一只碗。剩下两次，留给目前最好那次的两侧。 </details>


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

# %% [markdown] english="130828de"
# ### 练习 4.5 · 核心 · 20 分钟
#
# 关掉一个头：逐通道地把它放在对所有文本和位置的均值上，其余的头不动。返回这时注意力写进残差流的内容。`W_o` 的用法是 `x @ W_o`。（答案后面的单元格测量本讲各个头，用的是一起读入的 1,024 个位置上的均值。）
#
# <details><summary>提示 1</summary>
#
# `heads[:, head]` 的轴是 B、T、D。均值沿其中哪两个轴取？ </details>
#
# <details><summary>提示 2</summary>
#
# 第 2 讲把各个头并排放好：时间和头交换位置，然后把最后两个轴合成一个。 </details>


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

# %% [markdown] english="515bee23"
# ### 练习 4.6 · 核心 · 10 分钟
#
# 亲手裁剪。所有参数的梯度看作*一个*长向量：它长于 `limit` 时，全部乘以同一个倍数，让它恰好长 `limit`。梯度可能全是 0。
#
# <details><summary>提示 1</summary>
#
# 一个长向量的长度：平方，对所有张量求和，开一次根号。 </details>
#
# <details><summary>提示 2</summary>
#
# 倍数最大是 1，而且永远不要除以 0。 </details>


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

# %% [markdown] english="38dc8800"
# ### 练习 4.7 · 挑战 · 60 分钟
#
# AdamW，与库里做的一样。保留梯度的均值（旧值占 $\beta_1$）和梯度平方的均值（旧值占 $\beta_2$），都从 0 开始；在第 $t = 1, 2, \dots$ 步除以 $1 - \beta^t$，因为它们起初太小。每一步先把权重缩小 `rate` × `weight_decay` 这个比例，再移动 `rate` × 均值 /（√均方 + `eps`）。
#
# <details><summary>提示 1</summary>
#
# 从一步开始：修正之后，均值就是梯度，均方的平方根就是它的大小。 </details>
#
# <details><summary>提示 2</summary>
#
# 衰减从不碰梯度。W 就是这个意思。 </details>
#
# <details><summary>提示 3</summary>
#
# `eps` 在开根号之后加。 </details>


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

# %% [markdown] english="36b89d19"
# ## 自测
#
# 先选，再展开答案。
#
# **1.** 训练损失在下降，验证损失已经连升五次评估。你会…… (a) 再训练久一点 · (b) 取验证损失最低时的权重 · (c) 提高学习率。
#
# <details><summary>答案</summary>
#
# (b)。(a) 它会把文本背下来。(c) 更快地走到同一个地方。更多文本，或更强的 dropout，也会有帮助。 </details>
#
# **2.** 你关掉一个头，损失几乎不动。这说明…… (a) 这个头没用 · (b) 现在没有它，其他部分也能应付 · (c) 模型的头太多。
#
# <details><summary>答案</summary>
#
# (b)。(a) 别的文本也许需要它，或者另一个头做同样的事。(c) 需要*训练时*就少几个头的模型：第 5 讲。 </details>
#
# **下一讲：**[5 · 消融实验](05_ablation.ipynb)：越深越好吗？你又怎么知道？
