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

# %% [markdown] english="b293281a"
# # 3 · 模型：从字符到预测
#
# **Transformer** 由四部分组成：注意力；位置信息；对注意力的结果再做加工的前馈网络；还有一条让信息原样通过、什么也不丢失的通路。这一讲先看一个训练好的模型怎样写文本；再把它一个零件一个零件地搭起来，测出每个零件让损失降低多少；最后故意把它弄坏，弄清哪项测试能查出哪种 bug。

# %% [markdown] english="9f46c866"
# **你将学会**：写出仅解码器的 Transformer · 用“没有它会怎样”说明每个零件的作用 · 训练之前先测试模型 · 逐层读懂训练好的模型。
#
# **预备知识**：[第 2 讲](02_attention.ipynb)、导数的概念、[二十行 PyTorch](../../book/zh/pytorch.md)。**时间**：阅读约 65 分钟；运行代码约四分钟；做完核心练习约两小时。

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

# %% [markdown] english="47ca4f7e"
# ## 先看整体，再看零件
#
# 文本与第 1 讲相同；模型有两层，按第 5 讲的 `laptop` 训练配方，几分钟就训练好了。
#
# 让它写一段文本。模型给每个可能的下一个字符打一个分数，这些分数就是 **logits**。softmax 把它们变成概率，按概率抽取一个字符，接到文本后面，再输入模型，如此反复。（`temperature` 到第 6 讲再讲。）

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

# %% [markdown] english="13df5282"
# 写出来的文本没有意义，但很多地方是对的：大写的人名后面跟着冒号，每行的长短像诗，单词要么真有，要么像真的。这些规则都不是人写进去的。

# %% tags=["nbval-ignore-output"]
tokens = torch.tensor([tokenizer.encode(prompt)])
shapes = {"tokens": tokens, "x": trained.embedding(tokens), "logits": trained(tokens)}
shapes = {name: tuple(tensor.shape) for name, tensor in shapes.items()}
how = {"position": trained.config.position, "title": "整个解码器"}
figures.decoder_stack(shapes, len(trained.blocks), **how)

# %% [markdown] english="cdf0298c"
# 这就是完整的模型，图要从下往上看。这种结构叫作**仅解码器**（decoder-only）：没有单独的编码器去读另一段文本。**嵌入**（embedding）把每个词元变成一个有 `C` 个通道的向量；每个**层**（layer，代码里叫块，block）往这个向量上加两次东西；最后再归一化一次，由**输出头**（head；一个线性映射，不是注意力头）给下一个字符打分。（*旋转*位置编码后面会讲到。）
#
# ## 嵌入
#
# 词元的 id 只是编号，大小没有含义：40 号并不是 20 号的两倍。所以给 `V` 个 id 各配 `C` 个数，通过训练得到。按 id 查出这些数，等于用**独热向量**（one-hot vector）乘一个矩阵：

# %%
embedding = nn.Embedding(11, 6)
ids = torch.tensor([3, 1, 4])
product = F.one_hot(ids, 11).float() @ embedding.weight
assert torch.equal(embedding(ids), product), "查表就是乘独热向量"

# %% [markdown] english="689f0156"
# > **先猜。** 没有人告诉过模型什么是元音、什么是大写。哪些字符的向量会靠得近？

# %% tags=["nbval-ignore-output"]
vectors = trained.embedding.weight.detach()
title = "训练好的模型眼中的字符"
picture = figures.character_map(vectors, tokenizer.alphabet, title=title, note=text.note)
print(picture.get_label())  # what a screen reader says
picture

# %% [markdown] english="6c33485a"
# 大写字母在一边，小写字母在另一边，句末的标点离两边都远：常出现在同样地方的字符靠在一起。可是，用全部 128 个通道算，最接近的两个字符是 `$` 和 `&`，在文本里分别只出现过一次和三次。它们几乎从来不是正确答案，所以几乎每一步训练都把两者往同一个方向推：用*共享嵌入*（见下文）时，每个嵌入向量也用来给对应的字符打分。
#
# ## 阶梯：每级多一个零件的小模型
#
# 每个零件有多大作用？训练一组小模型，它们像一级级阶梯，每一级比前一级多一个零件。每一级都由一个嵌入、几个**子层**（sublayer，层的组成部分）和一个输出头构成。每个子层的输出都*加*到它的输入上；为什么要加，先不深究，后面你会看到不加的后果。


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

# %% [markdown] english="608af07a"
# 所有模型都用同一个函数来训练（训练循环是第 4 讲的主题），宽度、头数、上下文长度、步数和批量大小与第 2 讲相同，学习率则是 0.003：单独一个注意力能用 0.01，完整的模型就不行了（可以试试）。随机性也会让损失变动。所以每一级都用三个种子训练，在整个验证文本上测量，给出平均值和**标准差**（standard deviation），即各个种子的损失通常离平均值多远。比标准差还小的差异说明不了什么。这只是粗略的判断，第 4 讲有精确的方法。


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
    print(f"{rung}：{ladder[rung].mean():.3f}，种子间 ±{ladder[rung].std():.3f}")
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


# %% [markdown] english="c1140699"
# **第一级**只有一个嵌入和一个输出头：看一个字符，猜下一个。它最好也只能达到第 1 讲里哪个模型的损失？

# %% tags=["nbval-ignore-output"]
one_character = climb("单个字符", lambda: Rung(positions=False))
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
title = "同一张表：统计得到的，学到的"
kinds = ["统计得到的", "梯度下降学到的"]
figures.heatmaps(tables, names, names, kinds, labels, title=title, note=text.note)

# %% [markdown] english="766536a7"
# 答案是二元语法：两者都只用到前一个字符。第 1 讲靠统计得到的，网络靠梯度下降也学了出来。要做得更好，每个位置就得利用其他位置的信息。
#
# ## 带可学习权重的注意力
#
# 把第 2 讲的函数放在两个可学习的**投影**（projection）之间：前一个由 x 算出查询、键和值；后一个 $W_o$ 把各个头的结果混合起来，写回 x。
#
# > **先猜。** 加权平均不管先后顺序。打乱除最后一个之外的所有字符，模型在最后一个字符之后的预测会怎样？


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
bag = climb("+ 注意力", lambda: Rung(SelfAttention(small), positions=False))
line = held_out[0][:1]
shuffled = torch.cat([line[:, torch.randperm(T - 1)], line[:, -1:]], dim=1)
with torch.no_grad():
    in_order, mixed = bag(line)[:, -1], bag(shuffled)[:, -1]
assert torch.allclose(in_order, mixed, atol=1e-4), "没有位置信息：字符袋"

# %% [markdown] english="6b51382b"
# 完全没变。对这个模型来说，前文只是一个*字符袋*：它知道出现过哪些字母，却不知道 `h` 在 `t` 后面。读到句号时，它分不清 *"dog bites man."*（狗咬人）和 *"man bites dog."*（人咬狗）。
#
# ## 位置
#
# 最直接的办法是**给每个位置学一个向量**，加到嵌入上。这样，查询就能指定要关注哪个位置。
#
# > **先猜。** 加入位置信息，能让损失降低多少？与加入注意力相比呢？

# %% tags=["nbval-ignore-output"]
_ = climb("+ 位置", lambda: Rung(SelfAttention(small)))

# %% [markdown] english="561e07b7"
# 加入位置信息，让损失降低的幅度比加入（不分顺序的）注意力还大一点。
#
# ## MLP
#
# 注意力只能混合已有的信息。**MLP**（多层感知机，也叫**前馈网络**，feed-forward network）则对每个位置分别加工：先用一个线性映射把通道数变成四倍，再经过一个**激活函数**（activation function），最后用一个线性映射变回来。激活函数引入非线性；没有它，两个线性映射合起来仍然只是一个线性映射。常用的激活函数是 GELU：左边接近 0，右边接近 x，中间平滑，所以取值在 0 附近的通道也能继续学习（Hendrycks 和 Gimpel，2016）。
#
# 先加一个 MLP，与注意力配成一对；再加第二对（用双核 CPU 约需半分钟）：


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
_ = climb("+ 第二对", lambda: Rung(*(part(small) for part in PAIR * 2)))

# %% [markdown] english="de80d348"
# 每加一个零件，损失的降幅都是换种子所造成的差别的好几倍。第二对为什么也有用，光看这个阶梯还回答不了：它可以在第一对的结果上继续加工，权重也多了一倍。那么，再多叠几层？光叠还不行：没有那一步相加，六层的模型也只能学到各个字符出现的频率（[见表](#what-breaks-without-each-part)）。
#
# ## 残差流
#
# 贯穿各层的向量叫**残差流**（residual stream）。每个子层都读取它，再把自己的输出*加*回去，这就是**残差连接**（residual connection），也叫*跳跃连接*（skip connection）。有了它，信号可以直达最后一层，梯度也可以直达第一层：$x + f(x)$ 的导数是 $1 + f'(x)$，其中的 1 让梯度原样通过。
#
# > **先猜。** 没有残差连接，梯度经过十二个 MLP 之后还剩多少？


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


curves = {"有残差连接": gradient_by_depth(True), "没有残差连接": gradient_by_depth(False)}
passed_on = 10 ** ((curves["没有残差连接"][0] - curves["没有残差连接"][-1]) / 11)
print(f"没有残差连接时，每过一个 MLP，梯度变为 {passed_on:.4f} 倍")
labels = ("第几个 MLP 之后", "梯度的长度（log10）")
title = "传回各个 MLP 的梯度（共十二个）"
figures.lines(range(1, 13), curves, *labels, title=title)

# %% [markdown] english="5cd9a2fc"
# 梯度从后往前传，所以图要从右往左看。有残差连接时，各层得到的梯度大小差不多；没有时，每往前传一层，梯度只剩大约六分之一。这六分之一与深度无关。对有 $n$ 个输入通道的映射，PyTorch 抽取的初始权重的方差是 $1/(3n)$。反向传播先经过 MLP 的后一个映射（$n = 256$），每个数是 64 项之和；再经过前一个映射（$n = 64$），每个数是 256 项之和。方差变为原来的 $\frac{64}{3 \cdot 256} \cdot \frac{256}{3 \cdot 64} = \frac19$，长度变为三分之一。GELU 在 0 处的斜率是一半，于是 $1/3 \cdot 1/2 = 1/6$。
#
# 所以，**梯度消失**（vanishing gradient）确实存在。把初始权重取大些就能解决它；可是即使这样做了，没有残差连接的深层网络效果仍然更差（He 等，2016）。残差连接为什么有用，至今没有定论。一种常见的解释是：有了它，每层一开始就把 $x$ 原样传下去，只需要学一个修正量；没有它，每层都得把下一层需要的信息全部重新表示一遍。
#
# ## 归一化
#
# 所有子层的输出都加到同一个残差流上，它的数值会越来越大。**归一化**（norm）把每个位置上的各通道调回标准的大小。**LayerNorm** 先减去它们的均值，再除以它们的标准差，然后给每个通道乘上一个可学习的增益。取三个通道，手算一遍：

# %%
channels = torch.tensor([1.0, 4.0, 7.0])
mean = channels.mean()
deviation = ((channels - mean) ** 2).mean().sqrt()
print(f"均值 {mean:.0f}，标准差 {deviation:.3f}，除以它得到", end=" ")
print([round(value, 3) for value in ((channels - mean) / deviation).tolist()])
print("nn.LayerNorm：", [round(v, 3) for v in nn.LayerNorm(3)(channels).tolist()])

# %% [markdown] english="0667cecd"
# **归一化放在哪里？** 放在每个子层之前（**前置归一化**，pre-norm）：子层的输入是归一化之后的副本，残差流本身不变。最早的 Transformer 把它放在残差流上每次相加的后面（*后置归一化*，post-norm），于是残差流和它的梯度都被缩放：层数多的模型就需要小心地预热，也就是让学习率一开始逐渐升高（第 4 讲；Xiong 等，2020）。

# %%
figures.block_sides(title="一个块，归一化放在哪里")

# %% [markdown] english="8661a16e"
# ## 块
#
# 把左边那种写成代码。要记住的就是两行：*先把 x 归一化，计算注意力，加到 x 上；再把得到的新 x 归一化，经过 MLP，加到新 x 上。*


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


# %% [markdown] english="d6fff75c"
# 它和通常所说的 Transformer 块一样吗？PyTorch 里最接近的是 `nn.TransformerEncoderLayer`，加上因果掩码，就是我们的块。给它同样的权重来验证：


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
assert torch.allclose(as_pytorch(plain)(x), plain(x), atol=1e-5), "PyTorch 的块与我们的相等"

# %% [markdown] english="e121c905"
# 现在自己写一个，参数名和偏置都照 GPT-2：[练习 3.7](#exercise-3-7-core-40-min) 是本讲最重要的练习。
#
# ## 整个模型
#
# 把所有零件装在一起。用**共享嵌入**（tied embeddings）时，输出头就是嵌入矩阵本身：一个词元的分数，表示残差流与它的嵌入向量有多匹配（Press 和 Wolf，2017）。


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


# %% [markdown] english="1c9d39a5"
# **初始化。** 权重的初值取较小的随机数。残差流是 $2L$ 个子层（每层两个）的输出之和；把每个输出缩小为原来的 $1/\sqrt{2L}$，那么不论模型有多少层，残差流的大小都一样。多小才算小？还没训练时，模型给各个字符的概率应当大致相同。
#
# > **先猜。** 如果权重的初值是 GPT-2 的五十倍，初始损失是多少？


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

# %% [markdown] english="d52c7c47"
# 初始损失远高于 $\ln V$，说明模型*很有把握，却猜错了*：看到 20，先检查初始化。初值太小，在这里却看不出来。对有 $C$ 个输入通道的映射，标准差取 $1/\sqrt C$ 时，输出与输入大小相当：GPT-2 有 1,600 个通道，对应 0.025；我们有 64 个，对应 0.125。所以我们可以取大一些的初值：0.06，这是在这个验证集上用一个种子试了几次选出来的，后面会放到阶梯上检验。
#
# ## 先测试，再训练
#
# 三项测试，每项一秒。**初始损失：** 没训练过的模型，给各个字符的概率应当差不多（测的是损失与均匀分布的损失相差多少）。**因果性：** 改掉最后一个词元，前面各位置的输出都不许变。**一个批次：** 如果连八行短文本都背不下来，模型一定有 bug。


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
    print(f"{name}：{got:.4f}，上限 {most}")

# %% [markdown] english="8266115c"
# 但它们能查出人们常犯的错吗？放进几个 bug 看看，大多改掉某个零件的 `forward`；再加上第四项测试：与 PyTorch 的块对比。


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
cases["目标没有挪一位"] = (PlainGPT(small), (eight_lines[0], eight_lines[0]))
rows = {}
for case, (model, batch) in cases.items():
    got = {name: test(model, *batch) < most for name, (test, most) in FOUR.items()}
    rows[case] = {name: "–" if passed else "查出" for name, passed in got.items()}
pd.DataFrame(rows).T

# %% [markdown] english="7b8f0686"
# 三项测试查出了八个 bug 中的五个。（各头没有换轴，就会把不同的位置混在一起，所以会泄漏。）漏了 √D 或 $W_o$ 的模型，照样能把八行背下来：它算的是另一个函数，只有与另一份独立的实现（这里是 PyTorch 的块）对比才能发现。目标忘了挪一位时，初始损失*低于* $\ln V$：共享嵌入的输出头一开始就倾向于输出刚读到的字符，而此时它恰好就是目标。有一个模型，位置编号沿批次递增，而不是沿序列递增，四项测试全都通过；[练习 3.5](#exercise-3-5-core-25-min) 会把它找出来。
#
# ## 完整版：带开关的模型
#
# 课程正式使用的模型，给第 5 讲要检验的每个设计选择都设了一个开关。其中只有一个是新的想法，其余的代码浏览一遍就行。这个新的想法是**旋转位置编码**（RoPE）：它不往残差流里加任何东西，而是*旋转*查询和键。每两个通道看成平面上的一个箭头；位置每往后一个，箭头就多转一点，各对通道的转速不同。转得快的用来区分相邻的位置，转得慢的用来区分相距很远的位置，因为隔得那么远，转得快的早就转过一圈又回来了。点积只取决于两个箭头的长度（旋转时不变）和它们的夹角，所以起作用的只有位置之*差*。


# %%
figures.rotary_turn(((5, 3), (20, 18)), 20, title="查询和键都转了：夹角不变")


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

# %% [markdown] english="d8d02c10"
# 更早的办法有两种：可学习的位置向量（Gehring 等，2017）和**正弦位置编码**（sinusoids；Vaswani 等，2017）：后者是固定的，取同样那些角度的正弦和余弦，*加*到嵌入上。完全不用位置编码（`none`）时，多层的模型也不是对顺序一无所知（Haviv 等，2022）；思考 1 会问为什么。所有开关都在这里，各自的作用，等讲到对应的代码时再说：


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


# %% [markdown] english="2544f31b"
# **dropout** 在训练时随机把一部分数置为 0，并放大其余的数，使模型不会只依赖其中某一个。它作用于注意力权重、各子层的输出和嵌入。`qk_norm` 把查询和键也归一化，用意是在学习率较高时不让分数过大；`cache` 到第 6 讲再讲。另外三种激活函数里，`swiglu` 中间的宽度要加倍，因为其中一半要作为*门*去乘另一半：权重是原来的一倍半。


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


# %% [markdown] english="a72cd7f8"
# **RMSNorm** 不减均值，只除以均方根 $\sqrt{\tfrac1C\sum_j x_j^2 + \varepsilon}$。`scale`（在 `GPT` 里）把嵌入放大到与正弦位置编码相当的大小。*buffer* 是随模型一起搬到 GPU、但不参与学习的张量；`persistent=False` 表示不把它存进检查点。


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


# %% [markdown] english="232f77e2"
# 位置信息有两种形式：加上去的向量，或者要转过的角度。


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
assert torch.equal(general(eight_lines[0]), plain(eight_lines[0])), "所有开关都取默认值"
switches = [{name: value} for name, values in CHOICES.items() for value in values]
switches += [{"tie_embeddings": False}, {"qk_norm": True}, {"residual": False}]
for switch in switches:
    variant = GPT(replace(general.config, **switch))
    assert leak(variant, *eight_lines) < 1e-5, f"{switch}：看到了后面的词元"
for n_layers in (2, 4, 6):
    print(f"{n_layers} 层：{count_parameters(GPT(GPTConfig(n_layers=n_layers))):,}")

# %% [markdown] english="e65212d8"
# ## 阶梯的最上面几级
#
# 简明版 GPT（plain GPT）加入了归一化和共享嵌入，初值改用 0.06。接着用旋转位置编码代替可学习位置编码，训练两组：一组用 GPT-2 较小的初值，一组用我们的初值（用双核 CPU 约需一分钟）。


# %% tags=["nbval-ignore-output"]
def started(model, std=0.06):
    """The model, begun again with weights that suit its width."""
    initialise(model, std)
    return model


small_rope = replace(general.config, position="rope")
plain_trained = climb("简明版 GPT", lambda: started(PlainGPT(small)))
_ = climb("旋转位置 GPT，初值较小", lambda: GPT(small_rope))
finished = climb("旋转位置 GPT", lambda: started(GPT(small_rope)))

# %% tags=["nbval-ignore-output"]
one_character.config = small  # speak asks how long its context is
both = {"单个字符": one_character, "完成的 GPT": finished}
for rung, model in both.items():
    torch.manual_seed(0)
    print(f"--- {rung}\n{speak(model, prompt, 120)}\n")

# %% tags=["nbval-ignore-output"]
means = {rung: losses.mean() for rung, losses in ladder.items()}
counters = [name for name in ("bigram", "5-gram", "Kneser–Ney") if name in baselines]
rungs = means | {name: baselines[name] for name in counters}
title = "阶梯：每个零件让损失降低多少"
figures.loss_bars(rungs, title=title, note=text.note, ranked=False, low=1)

# %% [markdown] english="17f1b298"
# 最终的模型是最好的一级，领先的幅度是种子间标准差的好几倍；但只训练了几秒钟，离 5-gram 还很远。归一化、共享嵌入和新的初值合在一起，对损失的影响不超过换种子的影响。但初值很重要：用 GPT-2 的 0.02，我们这个 64 通道的模型（*旋转位置 GPT，初值较小*）并不比没有归一化的最后一级（*+ 第二对*）好。旋转位置编码为什么有用，光看这个阶梯同样回答不了。一种猜测是：用旋转位置编码的头，只要学会一次“前一个位置”是什么意思，就对所有位置都适用。
#
# ## 缺了一个零件会怎样
#
# 取六层的模型，每次去掉其中一两个零件。只训练一百步，只能看出哪些模型*能开始学习*，看不出最终哪个最好。（共训练十五次，用双核 CPU 约需一分半钟。）
#
# > **先猜。** 下面这几种模型，从最好到最差，顺序是怎样的？


# %% tags=["nbval-ignore-output"]
def changed_model(change, n_layers=6):
    """A deeper rotary GPT with that change."""
    return started(GPT(replace(small_rope, n_layers=n_layers, **change)))


broken, begun = {}, {}
changes = {"一切正常": {}, "后置归一化": {"norm_placement": "post"}}
changes |= {"没有归一化": {"norm": "none"}, "没有残差连接": {"residual": False}}
changes["两样都没有"] = {"norm": "none", "residual": False}
for name, change in tqdm(changes.items(), "变体", leave=False):
    make = partial(changed_model, change)
    begun[name] = make()(eight_lines[0]).std().item()
    models = [learn(make, seed, n_steps=steps // 3)[0] for seed in range(3)]
    with torch.no_grad():
        broken[name] = pd.Series([loss_of(m, *few).item() for m in models])
spread = {name: (losses.mean(), losses.std()) for name, losses in broken.items()}
table = pd.DataFrame(spread, index=["平均损失", "标准差"]).T
table["初始 logits 的标准差"] = begun
table.round(4)

# %% [markdown] english="050e10e0"
# *两样都没有*的模型停在均匀分布的损失上：每一层都把传给它的东西缩小，前向如此（所以 logits 一开始就是 0），反向也如此。只去掉残差连接时，模型只学到各个字符出现的频率（一元语法：3.347）。*没有归一化*的模型成绩落后。后置归一化在这里没有预热，却领先前置归一化（*一切正常*那一行），领先的幅度是种子间标准差的一倍半；只训练一百步、三个种子，还不足以下结论。如果想让模型学得快一点呢？下面用一个种子、三层的模型、十倍的学习率：

# %% tags=["nbval-ignore-output"]
for name in ("一切正常", "没有归一化"):
    make = partial(changed_model, changes[name], n_layers=3)
    _, losses = learn(make, rate=3e-2, n_steps=steps // 3)
    worst, last = max(losses), losses[-1]
    print(f"{name}：训练中最高的损失 {worst:.3g}，最后一步 {last:.3g}")

# %% [markdown] english="114e0539"
# 没有归一化，训练会失败；有归一化，模型仍然能学。
#
# ## 看看模型内部
#
# 把简明版 GPT 训练前、训练后的位置向量，与正弦位置编码比一比。
#
# > **先猜。** 哪些位置的向量会变得相似？

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
kinds = {"可学习，训练前": started(PlainGPT(small)).positions.detach()}
kinds["可学习，训练后"] = plain_trained.positions.detach()
kinds["正弦"] = sinusoidal_positions(T, C)
figures.position_similarity(kinds, title="两个位置有多相似", note=text.note)

# %% [markdown] english="3e9efaf0"
# 训练之后，相邻位置的向量更相似，靠前的位置与靠后的位置则变得更不相似。在正弦位置编码里，相似程度也随距离下降。
#
# **残差流里有什么。** 在任意一层之后，直接接上最后的归一化和输出头，就当模型到此为止：这就是 **logit lens**（nostalgebraist，2020）。下面让本讲开头的那个模型读一行它从没见过的文本。
#
# > **先猜。** 用共享嵌入时，在第一层*之前*，由残差流得到的预测是什么？


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
title, written = "每一层之后，模型的预测", tokenizer.decode(line)
hits = [sum(a == b for a, b in zip(g, written[1:], strict=True)) for g in guesses]
print(f"{len(written) - 1} 个字符中猜对的：第一层之前 {hits[0]}，各层之后 {hits[1:]}")
figures.logit_lens(guesses, right, written, title=title, note=text.note)

# %% [markdown] english="0db48ca6"
# 颜色表示*实际*的下一个字符的概率。在第一层之前，模型的预测是*它刚读到的字符*，因为共享嵌入的输出头看的，就是残差流与哪个嵌入最接近。中间那一行要小心解读：第 1 层的输出在训练中是供第 2 层用的，不是供这个输出头用的；没有针对某一层校准过的 lens 可能误导人（Belrose 等，2023）。下面的文本可以随意改：把鼠标移到一个字符上，看它的结果；点一个层或头的名称，就把它关掉：

# %% tags=["nbval-ignore-output"]
widgets.inside({"2 layers": trained}, tokenizer, written, model=0)

# %% [markdown] english="451f00db"
# ## 本讲小结
#
# 你从六个超参数开始，一直写到 logits，搭出了一个完整的 GPT，测出了每个零件让损失降低多少，并验证了它的块与 PyTorch 的一致。你还掌握了三项测试，模型通过之后，才值得费电去训练；也知道了它们查不出哪些错误。到目前为止的**损失记录**：

# %% tags=["nbval-ignore-output"]
log = pd.DataFrame({"奈特/字符": pd.Series(baselines | means)})
log["种子间 ±"] = pd.Series({rung: losses.std() for rung, losses in ladder.items()})
log.sort_values("奈特/字符", ascending=False).round(3)

# %% [markdown] english="a8669492"
# 上下文长度不同，损失就不能直接比较：我们的窗口有 32 个字符，开头几个位置的前文很少，而统计模型不切窗口，可以一直读下去。第 2 讲的损失可以对照：窗口相同，只是学习率更大。
#
# ## 思考
#
# **1.** 一个模型没有位置信息。它的*最后一个*输出能分清 *"dog bites man."* 和 *"man bites dog."* 吗？
#
# <details><summary>答案</summary>
#
# 只有一层时，不能。有两层时，也许能：因为有掩码，位置 4 是对五个值求平均，位置 13 是对十四个值求平均，第二层可以利用这个差别。 </details>
#
# **2.** `d_model` 和 `d_ff` 都加倍，参数量变成原来的几倍？`n_layers` 加倍呢？
#
# <details><summary>答案</summary>
#
# 将近四倍：块里每个矩阵的两边都加倍，而嵌入矩阵只有一边加倍。`n_layers` 加倍时，块的数量加倍，嵌入不变。 </details>
#
# **3.** 三项测试都通过了，还可能有什么错？
#
# <details><summary>答案</summary>
#
# 凡是既不泄漏答案、又不妨碍学习的错误都有可能：缩放、投影、位置。要与另一份独立的实现对比。 </details>
#
# **4.** SwiGLU 有三个矩阵，不是两个。中间的宽度取多少，权重才和宽度为 $4C$ 的 GELU 一样多？
#
# <details><summary>答案</summary>
#
# $3Cd = 2C \cdot 4C$，所以 $d = \frac83 C$（Shazeer，2020）。如果也取 $4C$，比较的就不只是激活函数，还有模型的大小。 </details>
#
# **5.** 初始化时，加到残差流上的输出，为什么要缩小为原来的 $1/\sqrt{2L}$，而不是 $1/(2L)$？
#
# <details><summary>答案</summary>
#
# 刚开始时，各个输出互不相关，所以相加的是方差，不是大小：$2L$ 项，每项的方差是 $1/(2L)$，合起来是 1。 </details>
#
# ## 练习
#
# 把答案写在 `...` 处，然后运行这个单元格：检查会显示*正确*或*还不对*；不对时，还会给出可能的原因。
#
# ### 练习 3.1 · 热身 · 5 分钟
#
# 一个 GPT 的各项大小如下，用可学习位置编码，LayerNorm 不带偏置，用共享嵌入。它有多少参数？用手算出来。
#
# <details><summary>提示 1</summary>
#
# 先列出各个矩阵：嵌入矩阵、位置矩阵，每层还有四个（`qkv` 是三个 $C \times C$）。再加上各个增益。 </details>
#
# <details><summary>提示 2</summary>
#
# `d_ff` 不是 `d_model` 的四倍；输出头就是嵌入矩阵。 </details>

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

# %% [markdown] english="9e1118b6"
# ### 练习 3.2 · 核心 · 10 分钟
#
# 写出本讲的 RMSNorm，给每个通道乘上各自的增益。`eps` 要放在根号*里面*：平方根函数在 0 处的斜率无穷大，如果放在外面，全为零的位置会得到 `nan` 的梯度。
#
# <details><summary>提示 1</summary>
#
# 只沿最后一个轴求平均，不减任何东西。 </details>
#
# <details><summary>提示 2</summary>
#
# `keepdim=True` 保留这个轴，这样才能相除。 </details>


# %% tags=["exercise"]
def rms_norm(x, gain, eps):
    """x: (B, T, C), gain: (C,) -> (B, T, C)."""
    ...


checks.check("3.2", rms_norm)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def rms_norm(x, gain, eps):
    return gain * x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt()


checks.check("3.2", rms_norm, quiet=True)

# %% [markdown] english="946e5e91"
# ### 练习 3.3 · 核心 · 15 分钟
#
# 本讲的 `rotate` 把通道 $i$ 和通道 $i + D/2$ 配成一对来旋转。原论文和许多公开的模型则把*相邻*的 $2i$ 和 $2i+1$ 配成一对，旋转 `angles[t, i]`；它们的权重装进我们的代码，输出就全乱了。写出旋转相邻通道的版本。
#
# <details><summary>提示 1</summary>
#
# `x[..., ::2]` 和 `x[..., 1::2]` 就是每一对里的两个通道。 </details>
#
# <details><summary>提示 2</summary>
#
# 把它们交错着放回原处：`torch.stack((…, …), dim=-1)`，然后 `.flatten(-2)`。 </details>


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

# %% [markdown] english="2c5821c2"
# ### 练习 3.4 · 核心 · 15 分钟
#
# 本讲只改了最后一个词元。现在不论从哪里泄漏，都要查出来：是否有*任何*位置的输出依赖*后面*的词元？检查会给出有泄漏的和没问题的模型，都处于评估模式。
#
# <details><summary>提示 1</summary>
#
# 词元只抽取一次。对每个位置 $t$，改掉那里的词元，比较 $t$ *之前*各位置的输出。 </details>
#
# <details><summary>提示 2</summary>
#
# `(token + 1) % vocab_size` 一定是另一个词元。小于百万分之一的差异都算舍入误差。 </details>


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

# %% [markdown] english="cf330df1"
# ### 练习 3.5 · 核心 · 25 分钟
#
# 检查会给你一些没训练过的模型，每个要么没问题，要么有一个 bug。返回下表中对应的名字：
#
# | 名字 | 错在哪里 |
# |---|---|
# | `"future"` | 某个输出依赖后面的词元 |
# | `"deaf"` | 输出只依赖同一位置的词元，不依赖其他任何词元 |
# | `"order"` | 最后一个输出不依赖前面词元的顺序 |
# | `"batch"` | 输出依赖批次里的其他序列，或依赖自己是批次里的第几条 |
# | `"sure"` | 初始损失比均匀分布的损失高出 1 以上 |
# | `"none"` | 没有错 |
#
# <details><summary>提示 1</summary>
#
# 用五项小测试，除最后一项外，都是比较两个输出。用互不相同的词元；1e-6 以内算舍入误差。测批次时，把同一行文本单独输入一次，再放在四行的末尾输入一次。 </details>
#
# <details><summary>提示 2</summary>
#
# *deaf* 模型的输出不受打乱影响。所以哪一项要在 *order* 之前测试？ </details>


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

# %% [markdown] english="6881ce7a"
# ### 练习 3.6 · 挑战 · 90 分钟
#
# 这是表示位置的第五种办法。ALiBi（Press、Smith 和 Lewis，2022）不往残差流里加任何东西，而是按距离*扣分*：在头 $h = 1 \dots H$ 里，从查询 $t$ 与键 $s$ 的分数中减去 $2^{-8h/H} \cdot (t - s)$。写出加到分数上的偏置，在 $s > t$ 处为 $-\infty$。
#
# 然后把它用到 `Attention` 里，放到阶梯上，与旋转位置编码比较；两者都是用 32 个字符的窗口训练的，再让它们读 64 个字符。
#
# <details><summary>后半题的答案</summary>
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
# 取一个 `position="none"`、`context_length=64` 的 GPT，把每块的注意力都换成这个类，用 `started` 初始化，再用 `learn` 训练。窗口为 64 时，它的损失与窗口为 32 时一样。旋转位置编码在窗口为 32 时略好，再往后就明显变差。 </details>
#
# <details><summary>提示 1</summary>
#
# `torch.arange(T)[:, None] - torch.arange(T)` 就是各个距离：每一行对应一个查询。 </details>
#
# <details><summary>提示 2</summary>
#
# 形状 $(H, 1, 1)$ 的斜率乘各个距离，得到 $(H, T, T)$。 </details>


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

# %% [markdown] english="f933fca8"
# ### 练习 3.7 · 核心 · 40 分钟
#
# 真正的 GPT-2：给定 x 和公开的权重，写出它的一个块。它有两样课程省去的东西：每个线性映射都带偏置，即 `x @ weight + bias`；每个归一化都带平移。GELU 是 `F.gelu(h, approximate="tanh")`；下面的 F 就是 `d_ff`。
#
# | 名字，后面跟 `.weight` 或 `.bias` | | 形状 |
# |---|---|---|
# | `ln_1`, `ln_2` | 两个归一化（增益、平移） | (C,), (C,) |
# | `attn.c_attn` | 由 x 得到并排的 q、k、v | (C, 3C), (3C,) |
# | `attn.c_proj` | 输出投影 | (C, C), (C,) |
# | `mlp.c_fc` | 升维 | (C, F), (F,) |
# | `mlp.c_proj` | 降回原来的维数 | (F, C), (C,) |
#
# <details><summary>提示 1</summary>
#
# 写两个小函数：一个按名字做线性映射，一个做归一化，即 `F.layer_norm(x, x.shape[-1:], gain, shift)`。 </details>
#
# <details><summary>提示 2</summary>
#
# `(x @ weight + bias).chunk(3, dim=-1)` 得到 q、k 和 v；接着用 `split_heads`、`causal_attention`、`merge_heads`。 </details>


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

# %% [markdown] english="b7180980"
# ## 自测
#
# **1.** 注意力头的个数加倍，`d_model` 不变：参数量…… (a) 加倍 · (b) 不变 · (c) 减半。
#
# <details><summary>答案</summary>
#
# (b)。四个矩阵都是 $C \times C$，怎么切都一样。 </details>
#
# **2.** 旋转位置编码作用于…… (a) 嵌入 · (b) 值 · (c) 查询和键。
#
# <details><summary>答案</summary>
#
# (c)。这样，它们的点积就取决于距离。 </details>
#
# **3.** 用*可学习位置编码*的模型，训练时窗口是 32 个字符，现在输入 64 个字符。它…… (a) 猜得和以前一样好 · (b) 后 32 个位置没有向量可用 · (c) 忘掉前 32 个字符。
#
# <details><summary>答案</summary>
#
# (b)。它的位置向量表只有 32 行。要做到 (a)，见练习 3.6。 </details>
#
# **下一讲**：[4 · 训练](04_train.ipynb)，用莎士比亚的文本正式训练模型。
