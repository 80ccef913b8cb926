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

# %% [markdown] english="dc8c7d2a"
# # 3 · 模型：从一个字符到一次猜测
#
# **Transformer** 就是注意力，加上顺序感，加上对听来的内容做一番加工，再加上一条什么都不会丢失的通路。你先见到一个训练好的，看它怎样写；然后用零件搭起来，每个零件都简明得凭记忆就能敲出来，也都用它降低的损失来证明自己；最后故意把它弄坏，弄清哪项测试能查出哪种 bug。

# %% [markdown] english="b4e3ae23"
# **你将学会**：写出仅解码器的 Transformer · 用“没有它会怎样”解释每个零件 · 在训练之前检验模型 · 逐层读懂训练好的模型。
#
# **需要**：[第 2 讲](02_attention.ipynb)，导数的概念，以及 PyTorch 的模块（[二十行 PyTorch](../../book/zh/pytorch.md)）。**时间：** 阅读一小时，计算四分钟，做到核心练习为止两小时。

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
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.lessons.attention import causal_attention, merge_heads, split_heads

# %%
import math
from dataclasses import asdict, replace
from functools import partial

import pandas as pd
from tqdm import tqdm

from course_utils import checks, corpus, figures, profiles, widgets
from course_utils.lessons.data import CharTokenizer, baseline_losses, get_batch, split
from course_utils.training import runs

# %% [markdown] english="d54d9fd6"
# ## 先看整体，再看零件
#
# 文本和字符表同第 1 讲，还有一个两层的模型，是有人用笔记本电脑花几分钟训练的。
#
# 让它写一段。它给每个可能接下来的字符打一个分，这些分叫 **logits**；softmax 把它们变成概率；抽出一个字符，接到后面；再问一次模型。`temperature` 让可能的字符更可能一点（第 6 讲）。

# %% tags=["nbval-ignore-output"]
text, profile = corpus.load(), profiles.current()
print(text.describe(), f"\n运行档 {profile.name}")
tokenizer = CharTokenizer(text.text)
V = tokenizer.vocab_size
train_ids, validation_ids = split(torch.tensor(tokenizer.encode(text.text)))
trained, record = runs.small_model(text)


# %% tags=["nbval-ignore-output"]
@torch.no_grad()
def speak(model, prompt, n_characters, temperature=0.8):
    """The prompt, and so many characters more."""
    ids = torch.tensor([tokenizer.encode(prompt)])
    for _ in range(n_characters):
        logits = model(ids[:, -model.config.context_length :])[0, -1]
        chosen = torch.multinomial((logits / temperature).softmax(dim=-1), 1)
        ids = torch.cat([ids, chosen[None]], dim=1)
    return tokenizer.decode(ids[0])


torch.manual_seed(0)
trained.eval()  # no dropout; more below
prompt = text.fitting_prompt()
print(speak(trained, prompt, 300))

# %% [markdown] english="504b40c3"
# 写出来的没有意思，可是看看有多少地方是对的：大写的人名后面跟着冒号，长短像诗行，词要么真有，要么像是会有。没有人写过任何规则。

# %% tags=["nbval-ignore-output"]
tokens = torch.tensor([tokenizer.encode(prompt)])
shapes = {"tokens": tokens, "x": trained.embedding(tokens), "logits": trained(tokens)}
shapes = {name: tuple(tensor.shape) for name, tensor in shapes.items()}
how = {"position": trained.config.position, "title": "整个解码器"}
figures.decoder_stack(shapes, len(trained.blocks), **how)

# %% [markdown] english="0f9399e4"
# 这就是它的全部，从下往上读；**仅解码器（decoder-only）** 的意思是：没有什么来编码另一段文本。**嵌入（embedding）** 把每个词元变成 `C` 个通道的向量；**层（layer）**，代码里叫块（block），每层往上面加两次东西；最后一次归一化；再由**输出头（head）**（不是注意力的头，而是一个线性映射）给下一个字符打分。（这个模型用的是第 5 讲的 `laptop` 配方；它的*旋转*位置编码和优化器 *Muon*，后面会讲到。）
#
# ## 嵌入
#
# 词元的编号，大小没有含义：40 不是 20 的两倍。所以 `V` 个编号各有一个 `C` 个数的向量，由训练来学。查出这个向量，和用**独热向量（one-hot vector）** 乘一个矩阵是一回事：

# %%
embedding = nn.Embedding(11, 6)
ids = torch.tensor([3, 1, 4])
product = F.one_hot(ids, 11).float() @ embedding.weight
assert torch.equal(embedding(ids), product), "查表就是乘独热向量"

# %% [markdown] english="69564bfa"
# > **先猜。** 训练好的模型从没听说过元音或大写。哪些字符的向量会靠得近？

# %% tags=["nbval-ignore-output"]
vectors = trained.embedding.weight.detach()
title = "训练好的模型眼里的字符"
picture = figures.character_map(vectors, tokenizer.alphabet, title=title, note=text.note)
print(picture.get_label())  # what a screen reader says
picture

# %% [markdown] english="f800d2a9"
# 大写在一边，小写在另一边，句末的符号离两边都远：出现在同样位置的字符靠在一起。有一对不合规律：在全部 128 个通道里，最近的两个是 `$` 和 `&`，它们在文本里只出现一次和三次。它们几乎从来不是答案，所以差不多每一步训练都把两者往同一个方向推；这是*共享嵌入*（见下）容许的。
#
# ## 一架小模型的梯子
#
# 要知道每个零件值多少，就训练一串小模型，每个比前一个多一个零件。一级由一个嵌入、几个**子层（sublayer）**（层的组成部分）和一个输出头构成。每个子层的输出都*加*到流过的东西上；这个加号先信着，后面你会看到没有它会怎样。六个尺寸足以描述它们：


# %%
@dataclass(frozen=True)  # nobody changes it by accident later
class Sizes:
    """What a plain GPT is told."""

    vocab_size: int  # V, different characters
    context_length: int  # T, the longest input
    n_layers: int
    n_heads: int  # H
    d_model: int  # C, channels of a position
    d_ff: int  # channels inside the MLP


small = Sizes(V, context_length=32, n_layers=2, n_heads=4, d_model=64, d_ff=256)
T, C, steps = small.context_length, small.d_model, 3 * profile.demo_steps

# %% [markdown] english="0be0a2da"
# 它们都由同一个函数来训练（循环是第 4 讲的主题）。宽度、头、上下文、步数和批次与第 2 讲相同；学习率是 0.003 而不是 0.01：单独一个注意力受得了后者，整个模型受不了（试试看）。运气也会让损失变动。所以每一级都用三个种子训练，在整个最后十分之一上测量，打印平均值和**标准差（standard deviation）**：种子通常离平均值多远。比它还小的差异说明不了什么：这是个粗略的标准，第 4 讲有精确的。


# %%
def loss_of(model, tokens, targets):
    """The mean token loss, in nats/character."""
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


def learn(make, seed=0, rate=3e-3, n_steps=None):
    """Make a model and train it. -> the model, its losses on the way"""
    torch.manual_seed(seed)
    model, draw, losses = make(), torch.Generator().manual_seed(seed), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for _ in range(n_steps or steps):
        loss = loss_of(model, *get_batch(train_ids, 32, T, draw))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


# %%
n = (len(validation_ids) - 1) // T * T  # in whole windows
held_out = validation_ids[:n].view(-1, T), validation_ids[1 : n + 1].view(-1, T)
few = [part[: profile.demo_windows] for part in held_out]  # windows, where a glance is enough
baselines, ladder = baseline_losses(text.text), {}


def climb(rung, make):
    """Train three seeds, put their losses on the ladder. -> the first model"""
    models = [learn(make, seed)[0] for seed in tqdm(range(3), rung, leave=False)]
    with torch.no_grad():
        ladder[rung] = pd.Series([loss_of(model, *held_out).item() for model in models])
    print(f"{rung}：{ladder[rung].mean():.3f}，种子 ±{ladder[rung].std():.3f}")
    return models[0]


# %%
class Rung(nn.Module):
    """Tokens (B, T) -> logits (B, T, V) through the given sublayers."""

    def __init__(self, *sublayers, positions=True):
        super().__init__()
        self.embedding = nn.Embedding(V, C)
        self.positions = nn.Parameter(torch.randn(T, C)) if positions else None
        self.sublayers = nn.ModuleList(sublayers)  # a list whose weights are found
        self.head = nn.Linear(C, V, bias=False)

    def forward(self, tokens):
        x = self.embedding(tokens)
        if self.positions is not None:
            x = x + self.positions[: tokens.shape[1]]
        for sublayer in self.sublayers:
            x = x + sublayer(x)
        return self.head(x)


# %% [markdown] english="aeb0c5a7"
# **第一级**是一个嵌入和一个输出头：它看到一个字符，猜下一个。第 1 讲的哪个损失，是它最好能指望的？

# %% tags=["nbval-ignore-output"]
one_character = climb("one character", lambda: Rung(positions=False))
print(f"二元语法：{baselines['bigram']:.3f}")

# %%
often = torch.bincount(train_ids).topk(12).indices  # the most frequent characters
followers = [train_ids[1:][train_ids[:-1] == c] for c in often]
counted = torch.stack([torch.bincount(f, minlength=V) / len(f) for f in followers])
with torch.no_grad():
    learned = one_character(often[:, None])[:, 0].softmax(-1)

# %% tags=["nbval-ignore-output"]
tables = torch.stack([counted, learned])[:, :, often]
names = [tokenizer.decode([c]) for c in often]
labels = ("这个字符", "下一个字符", "概率")
title = "同一张表，统计来的和学来的"
kinds = ["统计来的", "靠梯度学来的"]
figures.heatmaps(tables, names, names, kinds, labels, title=title, note=text.note)

# %% [markdown] english="1bfcc919"
# 二元语法：两者都只知道一个字符，别的都不知道。第 1 讲靠统计得到的，网络靠梯度学到了，连表都一样。要做得更好，一个位置就得从别的位置那里听到消息。
#
# ## 注意力，带可学习的权重
#
# 把第 2 讲的函数放在两个可学习的**投影（projection）** 之间：一个从 x 得到查询、键和值；另一个 $W_o$ 把各个头找到的东西混合起来，写回去。
#
# > **先猜。** 注意力是加权平均，而平均不知道被平均的东西是什么顺序。如果打乱除最后一个之外的所有字符，最后一个字符后面的猜测会怎样？


# %%
class SelfAttention(nn.Module):
    """Multi-head causal self-attention: (B, T, C) -> (B, T, C)."""

    def __init__(self, sizes):
        super().__init__()
        self.n_heads = sizes.n_heads
        self.qkv = nn.Linear(sizes.d_model, 3 * sizes.d_model, bias=False)
        self.out = nn.Linear(sizes.d_model, sizes.d_model, bias=False)

    def heads(self, x):
        """x: (B, T, C) -> q, k, v: (B, H, T, D)"""
        three = self.qkv(x).chunk(3, dim=-1)
        return (split_heads(part, self.n_heads) for part in three)

    def forward(self, x):
        return self.out(merge_heads(causal_attention(*self.heads(x))))


# %% tags=["nbval-ignore-output"]
bag = climb("+ attention", lambda: Rung(SelfAttention(small), positions=False))
line = held_out[0][:1]
shuffled = torch.cat([line[:, torch.randperm(T - 1)], line[:, -1:]], dim=1)
with torch.no_grad():
    in_order, mixed = bag(line)[:, -1], bag(shuffled)[:, -1]
assert torch.allclose(in_order, mixed, atol=1e-4), "没有位置：一袋字符"

# %% [markdown] english="b987c8fb"
# 什么也没变。这个模型读的是一*袋字符*：它知道有哪些字母来过，不知道 `h` 在 `t` 后面。读到句号时，它分不清 *"dog bites man."* 和 *"man bites dog."*。
#
# ## 位置
#
# 最直接的办法：**给每个位置学一个向量**，加到嵌入上。这样查询就能问一个位置。
#
# > **先猜。** 与注意力本身相比，顺序值多少？

# %% tags=["nbval-ignore-output"]
_ = climb("+ positions", lambda: Rung(SelfAttention(small)))

# %% [markdown] english="4936cc6b"
# 知道顺序，比不知道顺序时听见别人说话，值得还多一点。（第 2 讲里，*four heads* 是 2.288，接近这一级；*nothing* 是 2.531，接近 *one character*：那里学习率更大，输出头有偏置，*nothing* 也有位置。）
#
# ## MLP
#
# 注意力只能混合已有的东西。**MLP**（多层感知机，也叫**前馈网络（feed-forward network）**）对每个位置单独加工：一个线性映射把通道变成四倍，一个**激活函数（activation function）**，再一个线性映射变回来。激活函数把流过的东西弯一下；没有这一弯，两个线性映射不过等于一个。常用的是 GELU：左边接近 0，右边接近 x，中间平滑，所以在 0 附近的通道也还能学（Hendrycks 和 Gimpel，2016）。
#
# 接着先加一个这样的网络，再加第二对注意力和 MLP。


# %%
class MLP(nn.Module):
    """Two linear maps, an activation function between them: (B, T, C) -> (B, T, C)."""

    def __init__(self, sizes):
        super().__init__()
        self.up = nn.Linear(sizes.d_model, sizes.d_ff, bias=False)
        self.out = nn.Linear(sizes.d_ff, sizes.d_model, bias=False)

    def forward(self, x):
        return self.out(F.gelu(self.up(x)))


# %% tags=["nbval-ignore-output"]
PAIR = (SelfAttention, MLP)
_ = climb("+ MLP", lambda: Rung(*(part(small) for part in PAIR)))
_ = climb("+ a second pair", lambda: Rung(*(part(small) for part in PAIR * 2)))

# %% [markdown] english="31ab3c74"
# 每一样降低的损失，都是种子所能解释的好几倍。为什么第二对有用，这架梯子答不了：第二对可以在第一对的成果上接着做，权重也多了一倍。那就多叠几层？没有你先信着的那个加号，六层模型学到的，不过是各个字符的频率（[见表](#what-breaks-without-each-part)）。
#
# ## 残差流
#
# 每个子层都读流过的东西，即**残差流（residual stream）**，并把自己的输出*加*上去：这就是**残差连接（residual connection）**，也叫*跳跃连接（skip connection）*。它给信号一条直达最后一层的路，也给梯度一条回到第一层的路：$x + f(x)$ 的导数是 $1 + f'(x)$，那个 1 让它通过。
#
# > **先猜。** 没有加号，梯度经过十二个 MLP 之后还剩多少？


# %%
def gradient_by_depth(plus, depth=12):
    """log10 of the gradient's length in the stream, after each of `depth` MLPs."""
    torch.manual_seed(0)
    x, stages = torch.randn(16, T, C), []
    for _ in range(depth):
        mlp = MLP(small)  # untrained
        x = x + mlp(x) if plus else mlp(x)
        x.retain_grad()  # else only parameters keep theirs
        stages.append(x)
    x.sum().backward()
    return [x.grad.norm().log10().item() for x in stages]


curves = {"有加号": gradient_by_depth(True), "没有加号": gradient_by_depth(False)}
passed_on = 10 ** ((curves["没有加号"][0] - curves["没有加号"][-1]) / 11)
print(f"没有加号，一个 MLP 传下去 {passed_on:.4f}")
labels = ("第几个 MLP 之后", "梯度的长度（log10）")
title = "传回十二个 MLP 的各有多少"
figures.lines(range(1, 13), curves, *labels, title=title)

# %% [markdown] english="5834d9ae"
# 刻度是对数的：少一就是十分之一。从右往左读，那是梯度走的方向。有加号，所有层听到的都差不多；没有加号，每层大约只传下去六分之一。这六分之一不是深度造成的。对有 $n$ 个输入通道的映射，PyTorch 在 $\pm 1/\sqrt n$ 之间均匀地抽权重，所以权重的方差是 $1/(3n)$。前向时，$n$ 项之和的方差就是输入方差的三分之一。反向时，求和走的是另一侧：为 256 个通道抽的权重，求和只有 64 项；为 64 个通道抽的，求和却有 256 项。方差于是变成十二分之一和三分之四；合起来是九分之一，也就是长度的三分之一。GELU 在 0 处的斜率是一半，$1/3 \cdot 1/2 = 1/6$。所以你看到的**梯度消失（vanishing gradient）** 是真的，把权重取大些就能治好；可是这样治好的普通深层网络还是更差（He 等，2016）。加号为什么有用，至今没有定论。一种常见的说法：有了它，一层一开始就把 $x$ 原样传下去，只需学一个修正；没有它，每层都得把下一层需要的东西全部重建一遍。（光是梯度小，也不会让训练停下：第 4 讲的优化器 AdamW 会把每个梯度除以它平常的大小。）
#
# ## 归一化
#
# 所有子层都写进同一条流，流就越来越大。**归一化（norm）** 把每个位置的通道带回标准的大小。**LayerNorm** 减去它们的均值，除以它们的标准差，再各乘上一个学到的增益。三个通道，手算一遍：

# %%
channels = torch.tensor([1.0, 4.0, 7.0])
mean = channels.mean()
deviation = ((channels - mean) ** 2).mean().sqrt()
print(f"均值 {mean:.0f}，标准差 {deviation:.3f}，除以它得到", end=" ")
print([round(value, 3) for value in ((channels - mean) / deviation).tolist()])
print("nn.LayerNorm：", [round(v, 3) for v in nn.LayerNorm(3)(channels).tolist()])

# %% [markdown] english="3621ebe1"
# **它放在哪里？** 放在每个子层之前（**前置归一化，pre-norm**）：子层读到的是整理过的副本，流本身不动。最早的 Transformer 里，它放在流上，每次相加之后（*后置归一化，post-norm*）：每次归一化都重新缩放整条流，连同梯度，所以深的模型需要小心地预热，也就是让学习率在最初几步慢慢爬上去（第 4 讲；Xiong 等，2020）。

# %%
figures.block_sides(title="一个块，归一化放在哪里")

# %% [markdown] english="8f673d7c"
# ## 块
#
# 把左边那个写成代码。要记住的就是这两行：*x 加上对归一化后的 x 做的注意力，再对结果加上对归一化后的 x 做的 MLP。*


# %%
class PlainBlock(nn.Module):
    """Attention, then an MLP, each added to the stream: (B, T, C) -> (B, T, C)."""

    def __init__(self, sizes):
        super().__init__()
        self.attention, self.mlp = SelfAttention(sizes), MLP(sizes)
        self.norm_1 = nn.LayerNorm(sizes.d_model, bias=False)
        self.norm_2 = nn.LayerNorm(sizes.d_model, bias=False)

    def forward(self, x):
        x = x + self.attention(self.norm_1(x))
        x = x + self.mlp(self.norm_2(x))
        return x


# %% [markdown] english="3d7ae93a"
# 它就是大家所说的 Transformer 块吗？PyTorch 里最接近的是 `nn.TransformerEncoderLayer`：编码器的层加上因果掩码，就是我们的块（它的解码器层还会读另一段文本）。给它同样的权重：


# %%
def as_pytorch(block):
    """nn.TransformerEncoderLayer with a block's weights; x: (B, T, C) -> (B, T, C)."""
    how = {"batch_first": True, "norm_first": True, "bias": False}
    layer = nn.TransformerEncoderLayer(C, small.n_heads, small.d_ff, 0.0, "gelu", **how)
    with torch.no_grad():
        # copy_ overwrites in place
        layer.self_attn.in_proj_weight.copy_(block.attention.qkv.weight)
        layer.self_attn.out_proj.weight.copy_(block.attention.out.weight)
        layer.linear1.weight.copy_(block.mlp.up.weight)
        layer.linear2.weight.copy_(block.mlp.out.weight)
        layer.norm1.weight.copy_(block.norm_1.weight)
        layer.norm2.weight.copy_(block.norm_2.weight)
    future = torch.ones(T, T, dtype=torch.bool).triu(diagonal=1)
    # layer, with this argument given; in this module True means hidden
    return partial(layer, src_mask=future)


plain, x = PlainBlock(small), torch.randn(2, T, C)
assert torch.allclose(as_pytorch(plain)(x), plain(x), atol=1e-5), "PyTorch 的就是我们的"

# %% [markdown] english="8395068c"
# 现在自己写一个，用 GPT-2 自己的名字和偏置：[练习 3.7](#exercise-3-7-core-40-min) 是本讲的主要练习。
#
# ## 整个模型
#
# 嵌入，加上位置，依次通过各块，再归一化一次，然后给每个可能的下一个词元打分。用**共享嵌入（tied embeddings）** 时，输出头就是嵌入本身：一个词元的得分，是流与这个词元自己的向量有多吻合（Press 和 Wolf，2017）。


# %%
class PlainGPT(nn.Module):
    """A decoder-only Transformer: tokens (B, T) int64 -> logits (B, T, V)."""

    def __init__(self, sizes):
        super().__init__()
        self.config = sizes
        self.embedding = nn.Embedding(sizes.vocab_size, sizes.d_model)
        self.positions = nn.Parameter(torch.empty(sizes.context_length, sizes.d_model))
        self.blocks = nn.ModuleList(PlainBlock(sizes) for _ in range(sizes.n_layers))
        self.norm = nn.LayerNorm(sizes.d_model, bias=False)
        self.head = nn.Linear(sizes.d_model, sizes.vocab_size, bias=False)
        self.head.weight = self.embedding.weight  # tied: one parameter, two places
        initialise(self)  # the next cell

    def forward(self, tokens):
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


# %% [markdown] english="fce1d96d"
# **初始化。** 权重从小的随机数开始。流是 $2L$ 个子层写入的内容之和，所以它的方差会长到一个子层的 $2L$ 倍；写入时缩小到 $1/\sqrt{2L}$，那么不管模型多深，和的大小都不变。
#
# 要多小才行？最初的猜测应当是均匀的。
#
# > **先猜。** 权重是 GPT-2 的五十倍，模型最初的损失是多少？


# %% tags=["export"]
@torch.no_grad()
def initialise(model, std=0.02):
    """GPT-2's start: normal weights; what writes to the stream is smaller by 1/√(2L).

    Radford et al. (2019), section 2.3.
    """
    smaller = (2 * model.config.n_layers) ** -0.5
    for name, weight in model.named_parameters():  # names such as blocks.0.attention.out.weight
        if weight.ndim == 2:
            writes = name.endswith("out.weight")
            nn.init.normal_(weight, std=std * smaller if writes else std)


# %% tags=["nbval-ignore-output"]
for std in (0.002, 0.02, 0.06, 1.0):
    torch.manual_seed(0)
    model = PlainGPT(small)
    initialise(model, std)
    with torch.no_grad():
        print(f"标准差 {std}：初始损失 {loss_of(model, *few):.2f}，均匀分布 {math.log(V):.2f}")

# %% [markdown] english="de9b7ffd"
# 最初的损失远高于 $\ln V$，说明模型*有把握却错了*。看到 20 这样的初始损失，先查初始化。太小在这里看不出来。对 $C$ 个通道的映射，标准差取 $1/\sqrt C$ 时大小保持不变：GPT-2 的 1,600 个通道是 0.025，我们的 64 个是 0.125。所以我们的小模型可以从大一点开始，取 0.06，这是在这个验证集上用一个种子试几次挑出来的；梯子会检验它。
#
# ## 先测试，再训练
#
# 三项测试，每项一秒。**初始损失：** 没训练过的模型，应当觉得所有字符差不多一样可能。**因果性：** 改掉最后一个词元，它之前的输出都不许动。**一个批次：** 连八行短文本都背不下来的模型，必有 bug。


# %%
def first_loss(model, tokens, targets):
    """How far the loss of an untrained model lies from the uniform one."""
    with torch.no_grad():
        return abs(loss_of(model, tokens, targets).item() - math.log(V))


def leak(model, tokens, targets):
    """How far any output moves when a token behind it changes."""
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % V
    with torch.no_grad():
        return (model(changed) - model(tokens))[:, :-1].abs().max().item()


def one_batch(model, tokens, targets):
    """The loss on one batch after some steps on that batch alone."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(100):
        loss = loss_of(model, tokens, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


# %%
TESTS = {"初始损失": (first_loss, 0.2), "因果性": (leak, 1e-5)}
TESTS["一个批次"] = (one_batch, 0.5)
eight_lines = get_batch(train_ids, 8, T, torch.Generator().manual_seed(0))

# %%
torch.manual_seed(0)
model = PlainGPT(small)
for name, (test, most) in TESTS.items():
    got = test(model, *eight_lines)
    assert got < most, f"{name}：有 bug"
    print(f"{name}：{got:.4f}，容许 {most}")

# %% [markdown] english="94c6c403"
# 但这三项测试能查出人们常犯的错吗？埋几个 bug 看看。每个都替换掉某个零件的 `forward`。再加上第四项测试，与 PyTorch 的块对比：


# %%
def no_mask(part, x):
    return part.out(merge_heads(F.scaled_dot_product_attention(*part.heads(x))))


def no_scale(part, x):
    q, k, v = part.heads(x)
    return part.out(merge_heads(causal_attention(q * math.sqrt(q.shape[-1]), k, v)))


def heads_not_turned(part, x):
    q, k, v = (y.transpose(1, 2).reshape(y.shape) for y in part.heads(x))
    return part.out(merge_heads(causal_attention(q, k, v)))


def no_output_projection(part, x):
    return merge_heads(causal_attention(*part.heads(x)))


def no_residual(part, x):
    return part.mlp(part.norm_2(part.attention(part.norm_1(x))))


def positions_of_the_batch(part, tokens):
    x = part.embedding(tokens) + part.positions[: len(tokens), None]
    for block in part.blocks:
        x = block(x)
    return part.head(part.norm(x))


# %%
def against_pytorch(model, *_):
    """How far the first block is from PyTorch's with the same weights, as a share."""
    block, x = model.blocks[0], torch.randn(2, T, C)
    with torch.no_grad():
        library = as_pytorch(block)(x)
        return ((block(x) - library).abs().max() / library.abs().max()).item()


def planted(bug, kind):
    """A fresh GPT with the bug in each part of a kind."""
    torch.manual_seed(0)
    model = PlainGPT(small)
    for part in model.modules():  # all parts, at any depth
        if isinstance(part, kind):
            part.forward = partial(bug, part)
    return model


# %%
FOUR = TESTS | {"PyTorch 的块": (against_pytorch, 1e-5)}
bugs = {bug: SelfAttention for bug in (no_mask, no_scale, heads_not_turned)}
bugs |= {no_output_projection: SelfAttention, no_residual: PlainBlock}
bugs[positions_of_the_batch] = PlainGPT
cases = {bug.__name__: (planted(bug, kind), eight_lines) for bug, kind in bugs.items()}
loud = PlainGPT(small)
initialise(loud, std=1.0)
cases["权重太大"] = (loud, eight_lines)
cases["目标没有错开"] = (PlainGPT(small), (eight_lines[0], eight_lines[0]))
rows = {}
for case, (model, batch) in cases.items():
    got = {name: test(model, *batch) < most for name, (test, most) in FOUR.items()}
    rows[case] = {name: "–" if passed else "查出" for name, passed in got.items()}
pd.DataFrame(rows).T

# %% [markdown] english="28a6ce8a"
# 竖着看每一列。三项测试查出八个 bug 里的五个。缺了 √D，或缺了 $W_o$，模型照样能把八行背下来：它算的是另一个函数，只有另一个来源（这里是 PyTorch 的块）才看得出来。目标没有错开一位，表现为初始损失*低于* $\ln V$：共享嵌入的输出头一开始就会说出刚读到的字符，而那里它正好是答案。而沿批次而不是沿时间计数的位置，四项测试都通过了。[练习 3.5](#exercise-3-5-core-25-min) 会找到它。
#
# ## 一般形式
#
# 课程自己的模型，为第 5 讲要质疑的每个选择都准备了开关。其中只有一个是新想法，最好的那一级需要它。**旋转位置编码（RoPE）** 不往流里加任何东西，而是*转动*查询和键：两个通道是一支箭，每往后一个位置就多转一点。每一对有自己的速度：快的分辨相邻的位置；慢的分辨远处的位置，那里快的已经转了一圈又回来。点积只看两个长度（它们不变）和夹角，所以起作用的只有位置之*差*。


# %%
figures.rotary_turn(((5, 3), (20, 18)), 20, title="两支都转了：夹角不变")


# %% tags=["export"]
def position_angles(context_length, d):
    """Position t times d/2 speeds, 10000^(-2i/d), from 1 down: (T, d/2) radians."""
    speeds = 10000.0 ** (-torch.arange(0, d, 2) / d)
    return torch.arange(context_length)[:, None] * speeds


# %% tags=["export"]
def rotate(x, angles):
    """Turn the channel pair (i, i + D/2) at position t by angles[t, i]; lengths stay.

    x: (B, H, T, D), angles: (T, D/2) radians -> (B, H, T, D). Su et al. (2021), eq. 34,
    whose pairs are neighbours.
    """
    cos, sin = angles.cos(), angles.sin()
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


# %%
angles = position_angles(23, 8)
query, key = torch.randn(2, 1, 8).expand(2, 23, 8)  # one of each, at every place
scores = rotate(query, angles) @ rotate(key, angles).mT  # last two axes swapped
for distance in range(20):
    alike = scores.diagonal(-distance)  # of all pairs so far apart
    assert torch.allclose(alike, alike[0], atol=1e-4), "由距离决定"

# %% [markdown] english="6cad49c5"
# 比旋转更早的，有可学习的向量（Gehring 等，2017）和**正弦位置编码（sinusoids）**（Vaswani 等，2017）：后者是固定的，取同样那些角度的正弦和余弦，*加*上去。什么都不用（`none`）时，几层的模型对顺序也不是全无知觉（Haviv 等，2022），因为掩码让位置 4 对五个值取平均，让位置 49 对五十个取平均。所有的开关放在一处（各自的含义，在它的代码出现时说）：


# %% tags=["export"]
def sinusoidal_positions(context_length, d_model):
    """A fixed vector a position, sines, then cosines: (T, C).

    Vaswani et al. (2017), section 3.5, where sines and cosines alternate.
    """
    angles = position_angles(context_length, d_model + d_model % 2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :d_model]


# %% tags=["export"]
@dataclass(frozen=True)
class GPTConfig:
    """The sizes and switches of a GPT. The defaults are the `baseline` with 6 layers."""

    vocab_size: int = 65  # V
    context_length: int = 256  # T, the longest input
    n_layers: int = 6
    n_heads: int = 8  # H
    d_model: int = 256  # C, the width of the residual stream
    d_ff: int = 1024  # the width inside a feed-forward network
    dropout: float = 0.1  # share of activations set to 0 in training
    position: str = "learned"  # learned | sinusoidal | rope | none
    norm: str = "layernorm"  # layernorm | rmsnorm | none
    norm_placement: str = "pre"  # pre | post
    activation: str = "gelu"  # gelu | relu | relu2 | swiglu
    tie_embeddings: bool = True  # one matrix reads tokens and writes logits
    qk_norm: bool = False  # queries and keys scaled to a root mean square of 1
    residual: bool = True  # add a sublayer's output to its input

    def __post_init__(self):
        for name, problem in check_config(self).items():
            raise ValueError(f"{name} {problem}, not {getattr(self, name)!r}")


# %% jupyter={"source_hidden": true} tags=["export", "hide-cell"]
CHOICES = {
    "position": ("learned", "sinusoidal", "rope", "none"),
    "norm": ("layernorm", "rmsnorm", "none"),
    "norm_placement": ("pre", "post"),
    "activation": ("gelu", "relu", "relu2", "swiglu"),
}


def check_config(config):
    """What is wrong with a config: {setting: what is allowed}, empty if nothing is."""
    wrong = {}
    for name in ("vocab_size", "context_length", "n_layers", "n_heads", "d_model", "d_ff"):
        size = getattr(config, name)
        if not isinstance(size, int) or size < 1:
            wrong[name] = "must be a whole number of at least 1"
    for name, allowed in CHOICES.items():
        if getattr(config, name) not in allowed:
            wrong[name] = f"must be one of {', '.join(allowed)}"
    if not 0 <= config.dropout < 1:
        wrong["dropout"] = "must lie in [0, 1)"
    if not wrong and config.d_model % config.n_heads:
        wrong["d_model"] = f"must be a multiple of n_heads ({config.n_heads})"
    if not wrong and config.position == "rope" and config.d_model // config.n_heads % 2:
        multiple = f"an even multiple of n_heads ({config.n_heads})"
        wrong["d_model"] = f"must be {multiple} where position is rope"
    return wrong


# %% [markdown] english="1018565c"
# （折叠的单元格会拒绝不可能的设置。）**dropout** 在训练时把随机的一部分数设为 0，其余的放大，这样就没有什么会单单依赖其中一个：在注意力里针对注意力权重（加起来为 1 的那些行，不是学到的矩阵），在 `Block` 里针对每个子层写入的内容，在 `GPT` 里针对嵌入。`qk_norm` 的用意，是在学习率高时让得分不失控；`cache` 是第 6 讲的。前馈网络多了三种激活函数。`swiglu` 里面的宽度要加倍，因为一半要作为*门*去乘另一半；所以它的权重是一倍半。


# %% tags=["export"]
class Attention(nn.Module):
    """Multi-head causal self-attention: (B, T, C) -> (B, T, C)."""

    def __init__(self, config):
        super().__init__()
        self.n_heads, self.qk_norm = config.n_heads, config.qk_norm
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)

    def queries_keys_values(self, x, angles=None):
        """x: (B, T, C) -> q, k, v: (B, H, T, D), normed and turned as configured."""
        three = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (split_heads(part, self.n_heads) for part in three)
        if self.qk_norm:
            q, k = F.rms_norm(q, q.shape[-1:]), F.rms_norm(k, k.shape[-1:])
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        return q, k, v

    def forward(self, x, angles=None, cache=None):
        q, k, v = self.queries_keys_values(x, angles)
        if cache is not None:
            k, v = cache.extend(k, v)
        dropout = self.dropout if self.training else 0.0
        return self.out(merge_heads(causal_attention(q, k, v, dropout)))


# %% tags=["export"]
def activate(h, activation):
    """The activation function. swiglu halves the width: one half gates the other.

    Shazeer (2020) for swiglu; So et al. (2021), Primer, for relu2.
    """
    if activation == "gelu":
        return F.gelu(h)
    if activation == "swiglu":
        gate, h = h.chunk(2, dim=-1)
        return F.silu(gate) * h  # silu(g) is g · sigmoid(g)
    h = F.relu(h)
    return h.square() if activation == "relu2" else h


# %% tags=["export"]
class FeedForward(nn.Module):
    """Two linear maps, an activation function between them: (B, T, C) -> (B, T, C)."""

    def __init__(self, config):
        super().__init__()
        self.activation = config.activation
        halves = 2 if config.activation == "swiglu" else 1
        self.up = nn.Linear(config.d_model, halves * config.d_ff, bias=False)
        self.out = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x):
        return self.out(activate(self.up(x), self.activation))


# %% [markdown] english="ed555c6f"
# **RMSNorm** 什么也不减，只除以均方的平方根 $\sqrt{\tfrac1C\sum_j x_j^2 + \varepsilon}$。块的开关：归一化的位置，以及加号本身。`GPT` 里的 `scale` 把嵌入放大到正弦位置编码的大小。*buffer* 是随模型一起搬到 GPU、但不参与学习的张量；`persistent=False` 让它不进检查点。


# %% tags=["export"]
def make_norm(config):
    """Each position's channels at a common size, or left alone: (B, T, C) -> (B, T, C).

    Ba et al. (2016) for LayerNorm; Zhang and Sennrich (2019) for RMSNorm.
    """
    if config.norm == "layernorm":
        return nn.LayerNorm(config.d_model, bias=False)
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.d_model, eps=1e-5)
    return nn.Identity()


# %% tags=["export"]
class Block(nn.Module):
    """Attention, then feed-forward, each added to the stream: (B, T, C) -> (B, T, C)."""

    def __init__(self, config):
        super().__init__()
        self.attention, self.feed_forward = Attention(config), FeedForward(config)
        self.norm_1, self.norm_2 = make_norm(config), make_norm(config)
        self.dropout = nn.Dropout(config.dropout)
        self.pre, self.residual = config.norm_placement == "pre", config.residual

    def add(self, x, norm, sublayer):
        """x plus what the sublayer makes of it, normed before it or after the sum."""
        update = self.dropout(sublayer(norm(x) if self.pre else x))
        x = x + update if self.residual else update
        return x if self.pre else norm(x)

    def forward(self, x, angles=None, cache=None):
        x = self.add(x, self.norm_1, lambda h: self.attention(h, angles, cache))
        return self.add(x, self.norm_2, self.feed_forward)


# %% tags=["export"]
class GPT(nn.Module):
    """A decoder-only Transformer: tokens (B, T) int64 -> logits (B, T, V)."""

    def __init__(self, config):
        super().__init__()
        self.config, kind = config, config.position
        T, C, V = config.context_length, config.d_model, config.vocab_size
        sinusoids = sinusoidal_positions(T, C) if kind == "sinusoidal" else None
        angles = position_angles(T, C // config.n_heads) if kind == "rope" else None
        self.scale = C**0.5 if kind == "sinusoidal" else 1.0  # Vaswani (2017), 3.4
        self.embedding = nn.Embedding(V, C)
        self.positions = nn.Parameter(torch.empty(T, C)) if kind == "learned" else None
        self.register_buffer("sinusoids", sinusoids, persistent=False)
        self.register_buffer("angles", angles, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = make_norm(config) if config.norm_placement == "pre" else nn.Identity()
        self.head = nn.Linear(C, V, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        initialise(self)

    def forward(self, tokens, cache=None):
        """cache: one a layer (lesson 6); the tokens then follow those already in it."""
        start = cache[0].length if cache else 0
        added, angles = positions_at(self, start, start + tokens.shape[1])
        x = self.dropout(self.embedding(tokens) * self.scale + added)
        for i, block in enumerate(self.blocks):
            x = block(x, angles, cache[i] if cache else None)
        return self.head(self.norm(x))


# %% [markdown] english="9525f98f"
# 一个位置加什么、转多少，由单独的函数给出：第 6 讲要用到文本中间的位置。开关都不动时，什么也不变：一般的模型给出与简明版相同的 logits。而拨动其中任何一个，前面的输出也听不到最后的词元。


# %% tags=["export"]
def positions_at(model, start, stop):
    """What positions start … stop - 1 add to embeddings, and turn queries and keys by.

    -> (T, C) or 0.0, and (T, D/2) radians or None. ValueError beyond the context.
    """
    longest, kind = model.config.context_length, model.config.position
    if stop > longest:
        raise ValueError(f"{stop} tokens are more than the context length of {longest}")
    added = {"learned": model.positions, "sinusoidal": model.sinusoids}.get(kind)
    angles = None if model.angles is None else model.angles[start:stop]
    return (0.0 if added is None else added[start:stop]), angles


# %% tags=["export"]
def count_parameters(model):
    """The number of learned numbers; a matrix that is used twice counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


# %%
plain, general = PlainGPT(small), GPT(GPTConfig(**asdict(small), dropout=0.0))
# state_dict: {name: tensor}
weights = {n.replace("mlp", "feed_forward"): w for n, w in plain.state_dict().items()}
general.load_state_dict(weights)  # copies tensors to the parameters of these names
assert torch.equal(general(eight_lines[0]), plain(eight_lines[0])), "开关都不动"
switches = [{name: value} for name, values in CHOICES.items() for value in values]
switches += [{"tie_embeddings": False}, {"qk_norm": True}, {"residual": False}]
for switch in switches:
    variant = GPT(replace(general.config, **switch))
    assert leak(variant, *eight_lines) < 1e-5, f"{switch} 偷看了后面"
for n_layers in (2, 4, 6):
    print(f"{n_layers} 层：{count_parameters(GPT(GPTConfig(n_layers=n_layers))):,}")

# %% [markdown] english="28402071"
# （这些参数量，是第 5 讲的 baseline 在三种深度下的。）
#
# ## 梯子的顶端
#
# 简明版的 GPT 带来归一化、共享嵌入和 0.06 的起点。然后用旋转位置编码代替可学习的位置：一次从 GPT-2 的小起点开始，一次从我们的起点开始。


# %% tags=["nbval-ignore-output"]
def started(model, std=0.06):
    """The model, begun again with weights that suit its width."""
    initialise(model, std)
    return model


small_rope = replace(general.config, position="rope")
plain_trained = climb("plain GPT", lambda: started(PlainGPT(small)))
_ = climb("旋转位置编码的 GPT，小的起点", lambda: GPT(small_rope))
finished = climb("rotary GPT", lambda: started(GPT(small_rope)))

# %% tags=["nbval-ignore-output"]
one_character.config = small  # speak asks how long its context is
both = {"one character": one_character, "the finished GPT": finished}
for rung, model in both.items():
    torch.manual_seed(0)
    print(f"--- {rung}\n{speak(model, prompt, 120)}\n")

# %% tags=["nbval-ignore-output"]
means = {rung: losses.mean() for rung, losses in ladder.items()}
counters = [name for name in ("bigram", "5-gram", "Kneser–Ney") if name in baselines]
rungs = means | {name: baselines[name] for name in counters}
title = "梯子：每个零件降低多少损失"
figures.loss_bars(rungs, title=title, note=text.note, ranked=False, low=1)

# %% [markdown] english="5dd33b41"
# 完成的模型是最好的一级，领先的幅度是种子差异的好几倍；它越过了二元语法，离 5-gram 和 Kneser–Ney 还远：它才训练了几秒钟。归一化、共享嵌入和另一个起点，合起来对损失的影响不超过种子的影响。起点是要紧的：从 GPT-2 的 0.02 开始，我们的 64 个通道不比没有归一化的那一级走得更远。旋转位置编码为什么有帮助，梯子答不了。一个猜测：可学习的向量要为每一对位置弄明白“前一个”是什么意思，而旋转编码的一个头，一次就为所有位置学会了。
#
# ## 缺了一个零件，会坏在哪里
#
# 六层，拿掉一样东西，或两样。一百步只能看出谁*起得了步*，看不出谁最后最好。
#
# > **先猜**顺序，从最好到最差。


# %% tags=["nbval-ignore-output"]
def changed_model(change, n_layers=6):
    """A deeper rotary GPT with that change."""
    return started(GPT(replace(small_rope, n_layers=n_layers, **change)))


broken, begun = {}, {}
changes = {"一切正常": {}, "post-norm": {"norm_placement": "post"}}
changes |= {"no norm": {"norm": "none"}, "no residual": {"residual": False}}
changes["neither"] = {"norm": "none", "residual": False}
for name, change in tqdm(changes.items(), "variants", leave=False):
    make = partial(changed_model, change)
    begun[name] = make()(eight_lines[0]).std().item()
    models = [learn(make, seed, n_steps=steps // 3)[0] for seed in range(3)]
    with torch.no_grad():
        broken[name] = pd.Series([loss_of(m, *few).item() for m in models])
spread = {name: (losses.mean(), losses.std()) for name, losses in broken.items()}
table = pd.DataFrame(spread, index=["平均损失", "标准差"]).T
table["logits 最初的离散程度"] = begun
table.round(4)

# %% [markdown] english="d360c251"
# *neither*（两样都没有）卡在均匀分布的损失上，而且在有任何梯度之前，前向传播就看得出来：它的 logits 从 0 开始，因为每一层都把接到的东西缩小。只缺加号时，模型知道各字符的频率（一元语法：3.347），此外一无所知。*no norm*（无归一化）落在后面。后置归一化在这里没有预热，却领先前置归一化，领先的幅度是种子差异的一倍半；一百步、三个种子还定不了胜负。那么，着急的时候呢？一个种子，三层，学习率十倍：

# %% tags=["nbval-ignore-output"]
for name in ("一切正常", "no norm"):
    make = partial(changed_model, changes[name], n_layers=3)
    _, losses = learn(make, rate=3e-2, n_steps=steps // 3)
    worst, last = max(losses), losses[-1]
    print(f"{name}：途中最高的损失 {worst:.3g}，最后的 {last:.3g}")

# %% [markdown] english="393b0a1f"
# 没有归一化，十倍的学习率把模型毁了；有归一化，它还能学。
#
# ## 看看里面
#
# 简明版 GPT 的位置表，变成了什么样？把它的向量在开始时和训练后，与正弦位置编码比一比。
#
# > **先猜。** 哪些位置会变得相像？

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
kinds = {"learned, start": started(PlainGPT(small)).positions.detach()}
kinds["learned"] = plain_trained.positions.detach()
kinds["sinusoidal"] = sinusoidal_positions(T, C)
figures.position_similarity(kinds, title="两个位置有多像", note=text.note)

# %% [markdown] english="10fc51a4"
# 相邻的位置变得更像，靠前的位置变得与靠后的不像。在正弦位置编码里，相似程度也随距离下降。
#
# **流里带着什么。** 所有子层都写进同一条流，所以在任何地方都可以读它：在每一层之后接上最后的归一化和输出头，就当模型到此为止。这叫 **logit lens**（nostalgebraist，2020）。本讲开头的那个模型来读它从没见过的一行。
#
# > **先猜。** 用共享嵌入时，在第一层*之前*，流说的是什么？


# %%
@torch.no_grad()
def stream_after(model, tokens):
    """What passes by: before the first block and after each. -> a list of (B, T, C)"""
    added, angles = positions_at(model, 0, tokens.shape[1])
    stages = [model.embedding(tokens) * model.scale + added]
    for block in model.blocks:
        stages.append(block(stages[-1], angles))
    return stages


# %%
line = validation_ids[3 : 3 + min(33, trained.config.context_length)]
with torch.no_grad():
    stream = stream_after(trained, line[None, :-1])
    stages = [trained.head(trained.norm(x)).softmax(-1)[0] for x in stream]
guesses = [tokenizer.decode(p.argmax(-1)) for p in stages]

# %% tags=["nbval-ignore-output"]
right = torch.stack([p.gather(-1, line[1:, None])[:, 0] for p in stages])
title, written = "每一层之后，模型会说什么", tokenizer.decode(line)
hits = [sum(a == b for a, b in zip(g, written[1:], strict=True)) for g in guesses]
print(f"{len(written) - 1} 个里猜对：任何层之前 {hits[0]}，各层之后 {hits[1:]}")
figures.logit_lens(guesses, right, written, title=title, note=text.note)

# %% [markdown] english="b2a526e0"
# 颜色是*真正*接下来的那个字符的概率。在任何层之前，模型说的是*它刚读到的字符*：共享嵌入的输出头问的是，流像哪个嵌入。第 1 层之后猜对了几个，第 2 层之后大约一半。中间那一行要小心读：第 1 层被训练来服务第 2 层，而不是这个输出头；没有为某一层调过的 lens 可能误导人（Belrose 等，2023）。下面对任何文本里你指到的任何字符都做同样的事；点一下，就去掉一层或一个头：

# %% tags=["nbval-ignore-output"]
widgets.inside({"2 layers": trained}, tokenizer, written, model=0)

# %% [markdown] english="9adec182"
# ## 你搭起了什么
#
# 一个 GPT，从六个尺寸一直到 logits，每个零件都标了价，并且与 PyTorch 的块相等；三项测试，模型先通过了，才配用你的电，还有它们漏掉的东西。**损失记录**，加上本讲的各级：

# %% tags=["nbval-ignore-output"]
log = pd.DataFrame({"nats/character": pd.Series(baselines | means)})
log["种子 ±"] = pd.Series({rung: losses.std() for rung, losses in ladder.items()})
log.sort_values("nats/character", ascending=False).round(3)

# %% [markdown] english="88981697"
# 所有的行都在整个最后十分之一上测量。但我们的模型读的是 32 个字符的窗口，开头几个位置读到的很少，而计数模型一直读下去：上下文长度不同，损失就不能比。第 2 讲的表用的是同样的窗口，可以和这张放在一起看。
#
# ## 思考
#
# **1.** 一个模型不知道位置。它的*最后一个*输出能分清 *"dog bites man."* 和 *"man bites dog."* 吗？
#
# <details><summary>答案</summary>
#
# 一层，不能。两层，也许能：掩码让前面每个位置平均的字符个数不同，第二层可以读到这一点。 </details>
#
# **2.** `d_model` 和 `d_ff` 都加倍，参数量增长到多少？`n_layers` 加倍呢？
#
# <details><summary>答案</summary>
#
# 将近四倍：块里每个矩阵的两边都加倍，而嵌入只有一边加倍。`n_layers` 加倍，块的数量加倍，嵌入不变。 </details>
#
# **3.** 三项测试全过了。还可能有什么错？
#
# <details><summary>答案</summary>
#
# 凡是不靠作弊也还能学的错：一个缩放，一个投影，位置。拿另一个来源来对比。 </details>
#
# **4.** 普通的前馈网络有两个矩阵，SwiGLU 有三个。里面的宽度取多少，权重才和 $4C$ 的 GELU 一样多？
#
# <details><summary>答案</summary>
#
# $3 \cdot C \cdot d = 2 \cdot C \cdot 4C$，所以 $d = \frac{8}{3} C$（Shazeer，2020）。取 $4C$ 与 GELU 比，比的还有大小。 </details>
#
# **5.** 写进流里的东西，为什么一开始缩小到 $1/\sqrt{2L}$（Radford 等，2019），而不是 $1/(2L)$？
#
# <details><summary>答案</summary>
#
# $2L$ 个子层各自往流里加。一开始它们加的东西互不相关，所以相加的是方差，不是大小：$2L$ 项，每项方差 $1/(2L)$，合起来是 1。 </details>
#
# ## 练习
#
# 把答案写在 `...` 的位置，运行单元格。它会显示*正确*或*还不对*，不对时还会给出它试的输入、期望的结果、你的代码返回的结果，以及对错误原因的一个猜测。
#
# ### 练习 3.1 · 热身 · 5 分钟
#
# 尺寸如下的 GPT 有多少参数？可学习的位置，LayerNorm 不带偏置，共享嵌入。手算，一个零件接一个零件，写下这个数。
#
# <details><summary>提示 1</summary>
#
# 列出各个矩阵和形状：嵌入，位置，每层四个（`qkv` 是三个 $C \times C$ 合成一个）。然后是增益。 </details>
#
# <details><summary>提示 2</summary>
#
# 这里的 `d_ff` 不是 `d_model` 的四倍，输出头就是嵌入，而头的个数不改变什么。 </details>

# %%
print(checks.sizes("3.1"))

# %% tags=["exercise"]
parameters = ...

checks.check("3.1", parameters)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
sizes = checks.sizes("3.1")
width, wide = sizes["d_model"], sizes["d_ff"]
one_layer = 4 * width**2 + 2 * width * wide + 2 * width
rest = (sizes["vocab_size"] + sizes["context_length"] + 1) * width
parameters = sizes["n_layers"] * one_layer + rest

checks.check("3.1", parameters, quiet=True)

# %% [markdown] english="e78b829d"
# ### 练习 3.2 · 核心 · 10 分钟
#
# 写 RMSNorm：每个位置的通道除以它们均方的平方根，再各乘一个通道的增益。`eps` 加在均方上，在根号*里面*：根号在 0 处无限陡，加在外面的话，全是零的位置会得到 `nan` 的梯度。
#
# <details><summary>提示 1</summary>
#
# 只沿最后一个轴取平均，什么也不减。 </details>
#
# <details><summary>提示 2</summary>
#
# `keepdim=True` 保留这个轴，好让除法对得上位置。 </details>


# %% tags=["exercise"]
def rms_norm(x, gain, eps):
    """x: (B, T, C), gain: (C,) -> (B, T, C)."""
    ...


checks.check("3.2", rms_norm)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def rms_norm(x, gain, eps):
    return gain * x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt()


checks.check("3.2", rms_norm, quiet=True)

# %% [markdown] english="98b79ecb"
# ### 练习 3.3 · 核心 · 15 分钟
#
# 本讲的 `rotate` 把通道 $i$ 和通道 $i + D/2$ 一起转。原论文和许多公开模型的权重转的是*相邻的*：通道 $2i$ 和 $2i+1$，转 `angles[t, i]`。把这样的权重装进另一种，得到的就是噪声。写出转相邻通道的版本。
#
# <details><summary>提示 1</summary>
#
# `x[..., ::2]` 和 `x[..., 1::2]` 是每一对的两个成员；公式就是本讲的。 </details>
#
# <details><summary>提示 2</summary>
#
# 把结果并排放回去：`torch.stack((…, …), dim=-1)`，然后 `.flatten(-2)`。 </details>


# %% tags=["exercise"]
def turn_neighbours(x, angles):
    """x: (B, H, T, D), angles: (T, D/2) radians -> (B, H, T, D)."""
    ...


checks.check("3.3", turn_neighbours)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def turn_neighbours(x, angles):
    a, b, cos, sin = x[..., ::2], x[..., 1::2], angles.cos(), angles.sin()
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


checks.check("3.3", turn_neighbours, quiet=True)

# %% [markdown] english="15058ba2"
# ### 练习 3.4 · 核心 · 15 分钟
#
# 写一个能查出任何泄漏的探针：模型是否有*任何*输出依赖*后面的*词元？本讲只改了最后一个词元。检查会给你这样的模型：在某一块里泄漏，在整段时间上泄漏，或在第一个位置泄漏；也有没问题的；都处于评估模式。
#
# <details><summary>提示 1</summary>
#
# 词元只抽一次。对每个位置 $t$，改掉那里的词元，比较 $t$ *之前*的输出。 </details>
#
# <details><summary>提示 2</summary>
#
# `(token + 1) % vocab_size` 是另一个词元。小于百万分之一的差异算舍入误差，放过它。 </details>


# %% tags=["exercise"]
def looks_ahead(model, vocab_size, context_length):
    """model: tokens (B, T) int64 -> logits (B, T, V). -> True if it looks ahead."""
    ...


checks.check("3.4", looks_ahead)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def looks_ahead(model, vocab_size, context_length):
    tokens = torch.randint(vocab_size, (1, context_length))
    logits = model(tokens)
    for t in range(1, context_length):
        changed = tokens.clone()
        changed[0, t] = (changed[0, t] + 1) % vocab_size
        if (model(changed)[0, :t] - logits[0, :t]).abs().max() > 1e-6:
            return True
    return False


checks.check("3.4", looks_ahead, quiet=True)

# %% [markdown] english="947ec9f7"
# ### 练习 3.5 · 核心 · 25 分钟
#
# 检查会一个接一个地给你没训练过的模型，每个要么没问题，要么有一个 bug。像本讲这样测试它，返回 bug 的名字：
#
# | 名字 | 错在哪里 |
# |---|---|
# | `"future"` | 某个输出依赖后面的词元 |
# | `"deaf"` | 输出只依赖它自己的词元 |
# | `"order"` | 最后的输出不依赖前面词元的顺序 |
# | `"batch"` | 输出依赖批次里的其他序列，或依赖自己在其中的位置 |
# | `"sure"` | 初始损失比均匀分布的高出 1 以上 |
# | `"none"` | 没有错 |
#
# <details><summary>提示 1</summary>
#
# 五项小测试。除最后一项外，都是比较两个输出。测批次：同一行，单独问一次，再放在四行的末尾问一次。 </details>
#
# <details><summary>提示 2</summary>
#
# “聋”的模型察觉不到打乱，位置沿批次计数的单层模型也察觉不到。所以哪些要在 *order* 之前问？ </details>
#
# <details><summary>提示 3</summary>
#
# 词元要互不相同，打乱才会改变什么；小于 1e-6 的差异算舍入误差。 </details>


# %% tags=["exercise"]
def find_bug(model, vocab_size, context_length):
    """model: tokens (B, T) int64 -> logits (B, T, V). -> a name of the table."""
    ...


checks.check("3.5", find_bug)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def find_bug(model, vocab_size, context_length):
    tokens = torch.randperm(vocab_size)[:context_length][None]
    logits = model(tokens)

    def moved(changed, places):
        return (model(changed) - logits)[:, places].abs().max() > 1e-6

    for t in range(1, context_length):
        changed = tokens.clone()
        changed[0, t] = (changed[0, t] + 1) % vocab_size
        if moved(changed, slice(t)):
            return "future"
    last, other = [-1], tokens.roll(1, 0).flip(1)
    earlier = tokens.clone()
    earlier[:, :-1] = (earlier[:, :-1] + 1) % vocab_size
    if not moved(earlier, last):
        return "deaf"
    if not moved(torch.cat([tokens[:, :-1].flip(1), tokens[:, -1:]], dim=1), last):
        return "order"
    if (model(torch.cat([other, other, other, tokens]))[-1:] - logits).abs().max() > 1e-6:
        return "batch"
    targets = torch.randint(vocab_size, tokens.shape)
    loss = F.cross_entropy(logits[0], targets[0])
    return "sure" if loss > math.log(vocab_size) + 1 else "none"


checks.check("3.5", find_bug, quiet=True)

# %% [markdown] english="6591943b"
# ### 练习 3.6 · 挑战 · 90 分钟
#
# 分辨位置的第五种办法。ALiBi（Press、Smith 和 Lewis，2022）不往流里加任何东西；它让距离*付出代价*。头 $h = 1 \dots H$ 从查询 $t$ 与键 $s$ 的得分里减去 $2^{-8h/H} \cdot (t - s)$。写出加到得分上的偏置，在 $s > t$ 处为 $-\infty$。
#
# 然后给 `Attention` 加一个它的开关（自己写一个继承它的类就够了），把它放到梯子上和其他几种并排，再让两者（都在 32 个字符上训练）去读 64 个。
#
# <details><summary>后一半的答案</summary>
#
# ```python
# class Distant(Attention):
#     def forward(self, x, angles=None, cache=None):
#         q, k, v = self.queries_keys_values(x)
#         bias = alibi(self.n_heads, x.shape[1])
#         heard = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
#         return self.out(merge_heads(heard))
# ```
#
# 取一个 `position="none"`、`context_length=64` 的 GPT，每块换上一个这样的注意力，然后 `started`，再 `learn`。在 64 的窗口上，它的损失与在 32 上的一样。旋转位置编码在 32 时略好，过了位置 32 就明显变差。 </details>
#
# <details><summary>提示 1</summary>
#
# `torch.arange(T)[:, None] - torch.arange(T)` 里就是距离：行是查询。 </details>
#
# <details><summary>提示 2</summary>
#
# 形状 $(H, 1, 1)$ 的斜率乘形状 $(T, T)$ 的距离，得到 $(H, T, T)$。 </details>
#
# <details><summary>提示 3</summary>
#
# `F.scaled_dot_product_attention(q, k, v, attn_mask=bias)` 会把数值掩码加到得分上。 </details>


# %% tags=["exercise"]
def alibi(n_heads, T):
    """-> (H, T, T) float, added to the scores."""
    ...


checks.check("3.6", alibi)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def alibi(n_heads, T):
    distance = torch.arange(T)[:, None] - torch.arange(T)
    slopes = 2.0 ** (-8 * torch.arange(1, n_heads + 1) / n_heads)
    return (-slopes[:, None, None] * distance).masked_fill(distance < 0, -math.inf)


checks.check("3.6", alibi, quiet=True)

# %% [markdown] english="7709362e"
# ### 练习 3.7 · 核心 · 40 分钟
#
# 重头戏：GPT-2 的一个块，从 x 和它公开权重的张量开始。它有课程省去的东西：每个线性映射有偏置，每个归一化有平移。映射是 `x @ weight + bias`，GELU 是 `F.gelu(h, approximate="tanh")`；下面的 F 就是 `d_ff`。
#
# | 名字，后面各跟 `.weight` 和 `.bias` | | 形状 |
# |---|---|---|
# | `ln_1` | 第一个归一化（增益和平移） | (C,), (C,) |
# | `attn.c_attn` | 从 x 到 q、k 和 v，按这个顺序并排 | (C, 3C), (3C,) |
# | `attn.c_proj` | 输出投影 | (C, C), (C,) |
# | `ln_2` | 第二个归一化 | (C,), (C,) |
# | `mlp.c_fc` | 往上 | (C, F), (F,) |
# | `mlp.c_proj` | 再回来 | (F, C), (C,) |
#
# <details><summary>提示 1</summary>
#
# 两行：x 加上对归一化后的 x 做的注意力，然后 x 加上对归一化后的 x 做的 MLP。第二个 x 是第一行的结果。 </details>
#
# <details><summary>提示 2</summary>
#
# 两个小函数让它变短：按名字取一个归一化，按名字取一个线性映射。PyTorch 有 `F.layer_norm(x, x.shape[-1:], gain, shift)`。
# </details>
#
# <details><summary>提示 3</summary>
#
# `(x @ weight + bias).chunk(3, dim=-1)` 给出 q、k 和 v；然后是 `split_heads`、`causal_attention`、`merge_heads`。 </details>


# %% tags=["exercise"]
def gpt2_block(x, weights, n_heads):
    """x: (B, T, C), weights: {name: tensor} -> (B, T, C)."""
    ...


checks.check("3.7", gpt2_block)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def gpt2_block(x, weights, n_heads):
    def norm(x, name):
        gain, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], gain, shift)

    def linear(x, name):
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    three = linear(norm(x, "ln_1"), "attn.c_attn").chunk(3, dim=-1)
    q, k, v = (split_heads(part, n_heads) for part in three)
    x = x + linear(merge_heads(causal_attention(q, k, v)), "attn.c_proj")
    h = F.gelu(linear(norm(x, "ln_2"), "mlp.c_fc"), approximate="tanh")
    return x + linear(h, "mlp.c_proj")


checks.check("3.7", gpt2_block, quiet=True)

# %% [markdown] english="6083d661"
# ## 自测
#
# 先选，再展开答案。
#
# **1.** 头的个数加倍，`d_model` 不变。参数量…… (a) 加倍 · (b) 不变 · (c) 减半。
#
# <details><summary>答案</summary>
#
# (b)。四个矩阵都是 $C \times C$，不管切成几份。 </details>
#
# **2.** 旋转位置编码作用在…… (a) 嵌入上 · (b) 值上 · (c) 查询和键上。
#
# <details><summary>答案</summary>
#
# (c)。于是它们的点积取决于距离。(a) 是可学习的向量和正弦位置编码的做法。(b) 转过的值会以不同的角度混在一起。 </details>
#
# **3.** 位置*可学习*的模型在 32 个字符上训练，现在给它 64 个。它…… (a) 猜得和以前一样好 · (b) 后 32 个没有向量可用 · (c) 忘掉前 32 个。
#
# <details><summary>答案</summary>
#
# (b)。它的表只有 32 行。(a) 需要在更远处也有意义的位置编码：练习 3.6。 </details>
#
# **下一讲：**[4 · 训练](04_train.ipynb)，模型将在那里遇见莎士比亚。
