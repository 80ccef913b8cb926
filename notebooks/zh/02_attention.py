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

# %% [markdown] english="1304cfee"
# # 2 · 注意力：该关注哪些位置
#
# 第 1 讲的 5-gram 只往回看四个字符，永远是紧挨着的那四个。可是，接下来轮到谁说话，也许要看十行之前的一个人名。**注意力**（attention）让每个位置根据自己读到的内容，决定前面哪些位置重要。你会先手算一遍，再用六行代码写出来，训练它，看看它能让损失降低多少奈特。

# %% [markdown] english="ed7ffc4a"
# **你将学会**：算出查询、键和值 · 说清为什么要除以 √D · 用掩码遮住未来，一看症状就知道是忘了掩码 · 把一个向量切成多个头。
#
# **预备知识**：[第 1 讲](01_data.ipynb)、[二十行 PyTorch](../../book/zh/pytorch.md)、矩阵乘法。**时间**：阅读约 30 分钟；运行代码约两分钟；做完核心练习约一个半小时。

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

import torch
from torch.nn import functional as F

# %%
import pandas as pd
from torch import nn
from tqdm import tqdm

from course_utils import checks, corpus, figures, profiles, widgets
from course_utils.lessons.data import CharTokenizer, baseline_losses, get_batch, split
from course_utils.training import evaluation, runs

# %% [markdown] english="0aa07b21"
# 模型把第 1 讲的每个整数变成由 `C` 个数组成的向量，这些数就是它的**通道**（channel）：这里先用随机数，到第 3 讲再通过训练得到。取 `B` 条序列，每条 `T` 个位置；`D` 是查询的通道数，查询见下文。这几个大小是互不相同的质数，轴要是弄错了，形状就对不上。

# %%
B, T, C, D = 2, 5, 11, 7
torch.manual_seed(0)
x = torch.randn(B, T, C)
print("x：每个位置知道的内容，", tuple(x.shape))

# %% [markdown] english="885e4cb0"
# ## 第 1 步：对前文求平均
#
# 利用前文，最笨的办法是求平均：位置 $t$ 取位置 $0 … t$ 的平均值。写成循环：

# %%
by_loop = torch.stack([x[:, : t + 1].mean(dim=1) for t in range(T)], dim=1)

# %% [markdown] english="605ce416"
# 左乘一个合适的下三角矩阵（每行加起来是 1），结果一样，而且全部 `T` 个位置一次算完。后面的一切都以此为基础：*对各个位置加权平均，就是矩阵乘法*。
#
# > **先猜。** 这个三角矩阵的第三行是什么样？

# %%
equal = torch.ones(T, T).tril()
equal = equal / equal.sum(dim=1, keepdim=True)
assert torch.allclose(equal @ x, by_loop, atol=1e-6), "用三角形的权重矩阵相乘，就是求平均"
labels = ("位置", "关注的位置", "权重")
figures.heatmaps(equal, labels=labels, title="权重相等：对前文求平均")

# %% [markdown] english="de1d8f04"
# 位置 $t$ 对应的那一行把注意力平均分给 $t + 1$ 个位置；对角线以上是未来，一点也分不到。
#
# **Softmax** 把分数变成权重：以 $e$ 为底、分数为指数求幂，再除以这一行的总和。让前文的分数都是 0（$e^0 = 1$），未来的分数都是 $-\infty$（$e^{-\infty} = 0$），得到的正是同一个三角矩阵：

# %%
future = torch.ones(T, T, dtype=torch.bool).triu(diagonal=1)
scores = torch.zeros(T, T).masked_fill(future, -math.inf)
assert torch.allclose(scores.softmax(dim=-1), equal), "分数相等，权重就相等"

# %% [markdown] english="d5a69809"
# ## 第 2 步：查询、键和值，手算一遍
#
# 分数都相等，内容就不起作用：紧挨着的一个 *t*，和隔得很远的一个空格，权重一样。要得到更好的分数，每个位置用可学习的矩阵，由自己的向量算出另外三个向量。这样的矩阵叫作**投影**（projection）：
#
# | | | 含义 |
# |---|---|---|
# | **查询**（query） | $q = x W_q$ | 我在找什么？ |
# | **键**（key） | $k = x W_k$ | 我能提供什么？ |
# | **值**（value） | $v = x W_v$ | 如果你关注我，我给你什么？ |
#
# 查询与键的匹配程度，用两者的点积来衡量。下面取三个字符、两个通道，矩阵由我们指定：

# %%
three = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])  # a row a character
W_q = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
W_k = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
W_v = torch.tensor([[1.0, 0.0], [0.0, 10.0]])
q, k, v = three @ W_q, three @ W_k, three @ W_v
for name, matrix in {"q": q, "k": k, "v": v}.items():
    print(name, matrix.tolist())

# %% [markdown] english="2afd4694"
# > **先猜。** 拿纸笔算一算：最后一个字符的查询是 (2, 1)。哪个键与它最匹配？
#
# （代码还除以了 $\sqrt 2$，并遮住了未来：见第 3 步和第 4 步。）

# %%
fit = q @ k.T  # row: who asks; column: who is asked
print("最后一个查询的 q · k：", fit[2].tolist())
hidden = torch.ones(3, 3, dtype=torch.bool).triu(diagonal=1)
masked = (fit / math.sqrt(2)).masked_fill(hidden, -math.inf)
by_hand_weights = masked.softmax(dim=-1)
print("权重：\n", by_hand_weights.round(decimals=2))
print("每个位置读到的内容：\n", (by_hand_weights @ v).round(decimals=2))

# %% [markdown] english="cbec3fe0"
# 键 (0, 1) 和 (1, 0) 的匹配程度分别是 1 和 2；最后一个键两样都有，匹配程度为 3。经过 softmax，最后一个字符从第一个值取 .14，从第二个值取 .28，从自己的值取 .58。注意力就是这么回事。下面把它画成图（`k.mT` 交换最后两个轴）：

# %%
W_q, W_k, W_v = (torch.randn(C, D) for _ in range(3))
q, k, v = x @ W_q, x @ W_k, x @ W_v
scores = q @ k.mT / math.sqrt(D)
weights = scores.masked_fill(future, -math.inf).softmax(dim=-1)
out = weights @ v
tensors = {"x": x, "q": q, "scores": scores, "out": out}
shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
figures.attention_flow(shapes, title="注意力：从 x 到读到的内容")

# %% [markdown] english="e6c3409e"
# 只有两行代码在不同位置之间传递信息：一行算分数，每个位置的查询与每个位置的键做点积；另一行乘以 `v`，每个位置求出自己的加权平均。下面这一段，要能默写出来：


# %%
def attention(x, W_q, W_k, W_v):
    """One head: x (B, T, C), three matrices (C, D) -> (B, T, D)."""
    q, k, v = x @ W_q, x @ W_k, x @ W_v
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    future = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)
    return scores.masked_fill(future, -math.inf).softmax(dim=-1) @ v


assert torch.allclose(attention(x, W_q, W_k, W_v), out)

# %% [markdown] english="3f1f96aa"
# ## 第 3 步：为什么要除以 √D？
#
# 如果 $q$ 和 $k$ 里的数相互独立，均值为 0，方差为 1，那么 $\mathrm{Var}(q \cdot k) = \sum_i \mathrm{E}[q_i^2]\,\mathrm{E}[k_i^2] = D$（Vaswani 等，2017，3.2.1 节）。所以分数的大小随 $\sqrt D$ 增长；而分数相差很大时，softmax 会把几乎全部权重给一个位置，其余的几乎分不到。
#
# > **先猜。** 有十个同样好的键，$D$ 为 1024。分数碰巧最高的那个键能分到多少注意力？

# %%
sizes, luckiest = (4, 16, 64, 256, 1024), {"不除": [], "除以 √D": []}
for d in sizes:
    chance = torch.Generator().manual_seed(0)
    ask = torch.randn(100, 1, d, generator=chance)  # a hundred queries,
    offer = torch.randn(100, 10, d, generator=chance)  # each with ten keys of its own
    dots = (ask * offer).sum(-1)
    for name, scale in zip(luckiest, (1, math.sqrt(d)), strict=True):
        weights = (dots / scale).softmax(-1)
        luckiest[name].append(weights.amax(-1).mean().item())
    print(f"D = {d:4}：分数的标准差 {dots.std():4.1f}")

# %%
labels = ("通道数 D（对数刻度）", "十个权重中最大的一个")
look = {"baselines": {"均分": 0.1}, "log_x": True, "low": 0}
title = "为什么要除以 √D：分数碰巧最高的键分到多少权重"
figures.lines(sizes, luckiest, *labels, **look, title=title)

# %% [markdown] english="9848098d"
# 不除的话，$D$ 越大，最大的权重越接近 1；64 个通道是常用的大小，这时它已经超过 0.8。某个权重是 1 时，分数小幅变化不会改变结果：没有梯度，模型就无从知道该改为关注*另外*哪个位置。除过之后，最大的权重一直在 0.3 左右。
#
# 假设要让每个查询都多关注自己的第一个键，为此对分数求梯度。有百分之几的查询得到的梯度够大（至少 0.0001）？

# %%
for name, scale in {"不除": 1, "除以 √D": math.sqrt(1024)}.items():
    scores = dots.clone().requires_grad_()  # D = 1024
    (scores / scale).softmax(-1)[:, 0].sum().backward()
    heard = (scores.grad.abs().amax(-1) >= 1e-4).float().mean()
    print(f"{name:13}：{heard:.0%} 的查询得到够大的梯度")

# %% [markdown] english="a33c5227"
# 不除的话，大多数查询一开始就碰巧选定了一个键，再难改变。

# %% [markdown] english="c222b77d"
# ## 第 4 步：不许看未来
#
# 训练时，每个位置的答案就是右边那个字符；模型要是看得到它，就会学着去抄。所以，要在 softmax *之前*把未来的分数设为 $-\infty$，这样每行的权重加起来仍是 1。这就是**因果掩码**（causal mask，论文 3.2.3 节）：
#
# $$\text{attention}(Q, K, V) = \text{softmax}\left(\frac{QK^\top}{\sqrt{D}} + \text{mask}\right) V$$
#
# 课程的写法多一个轴 `H`，留给下面要讲的头；矩阵乘法只作用在最后两个轴上。


# %% tags=["export"]
def attention_weights(q, k):
    """How much each position listens to itself and each earlier one; rows sum to 1.

    q, k: (B, H, T, D) float -> (B, H, T, T) float. softmax(q kᵀ / √D) under a causal mask:
    Vaswani et al. (2017), equation 1 and section 3.2.3.
    """
    T = q.shape[-2]
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    future = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(diagonal=1)
    return scores.masked_fill(future, -math.inf).softmax(dim=-1)


# %%
H = 3
q, k, v = (torch.randn(B, H, T, D) for _ in range(3))
weights, ones = attention_weights(q, k), torch.ones(B, H, T)
assert torch.allclose(weights.sum(-1), ones), "softmax 沿着键计算"
assert (weights.triu(diagonal=1) == 0).all(), "任何位置都不关注未来"
assert torch.allclose(weights[..., 0, 0], ones[..., 0]), "第一个位置只有自己可看"

# %% [markdown] english="67b4e0a9"
# PyTorch 用一个函数就做完了这一切。结果和我们的一致吗？

# %%
by_hand = attention_weights(q, k) @ v
library = F.scaled_dot_product_attention(q, k, v, is_causal=True)
assert torch.allclose(by_hand, library, atol=1e-6), "我们的四步就是 PyTorch 的一步"

# %% [markdown] english="bef7e775"
# 一致。所以后面的模型用 PyTorch 的函数：它不必把 `(T, T)` 的权重写进内存。
#
# 有没有未来的信息漏进来？改动最后一个词元的键和值，看看有掩码和没有掩码时，哪些输出变了。（只试一个输入，不算证明。）

# %%
k_changed, v_changed = k.clone(), v.clone()
k_changed[:, :, -1] += 1
v_changed[:, :, -1] += 1
for causal in (True, False):
    before = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    after = F.scaled_dot_product_attention(q, k_changed, v_changed, is_causal=causal)
    moved = (after - before).abs().amax(dim=(0, 1, 3)) > 1e-6
    print(f"掩码 {causal!s:5}：输出变了的位置 {moved.tolist()}")

# %% [markdown] english="b13aa783"
# ## 多个头
#
# 每个位置只有一行权重，一次只能关注一类东西。所以要并列计算 `H` 份注意力。现在每个 $W$ 都是 (C, C)，对 x 只投影一次；q、k、v 各切成 `H` 个**头**（head），每个头有 `D = C / H` 个通道，各自计算注意力，结果再并排拼起来。下图以 q、k、v 中的一个为例：

# %%
figures.heads_cut(T, H * D, H, title="把通道切成多个头")

# %% [markdown] english="765d4797"
# 乘法的总次数不变：分数的个数是原来的 `H` 倍，每个分数要累加的乘积却只有 `H` 分之一。


# %% tags=["export"]
def split_heads(x, n_heads):
    """(B, T, C) -> (B, H, T, D): each head gets its own D = C / H channels."""
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


# %% tags=["export"]
def merge_heads(x):
    """(B, H, T, D) -> (B, T, C): the heads' channels side by side again."""
    return x.transpose(1, 2).flatten(-2)


# %%
x = torch.randn(B, T, H * D)
heads_of_x = split_heads(x, H)
assert heads_of_x.shape == (B, H, T, D)
assert torch.equal(merge_heads(heads_of_x), x), "切开再拼回，不丢失任何信息"
assert torch.equal(heads_of_x[:, 1], x[..., D : 2 * D]), "第二个头得到第二组 D 个通道"

# %% [markdown] english="6415b6ed"
# **忘了转置，会出什么错？** 直接 `view` 成 `(B, H, T, D)`，形状是对的，也不会报错，可是第一个头里装的，成了最前面几个位置的全部通道。

# %%
cut = x.view(B, H, T, D)
assert cut.shape == heads_of_x.shape, "光看形状看不出来"
print(f"位置正确的通道：{(cut == heads_of_x).float().mean():.0%}")

# %% [markdown] english="fc48b756"
# 并排拼在一起的各个头，彼此还没有混合。第四个矩阵 $W_o$，也就是**输出投影**（output projection），把它们混合起来：$\text{out} = \text{merge}(\text{heads})\,W_o$。有了它，注意力才完整；[练习 2.6](#exercise-2-6-core-30-min) 请你把它写出来。
#
# 课程软件包里的版本折叠在下面，多了 `dropout`（第 3 讲），还能处理查询比键少的情形（第 6 讲）。除此之外，它就是上面调用 PyTorch 的那一行。


# %% jupyter={"source_hidden": true} tags=["export", "hide-cell"]
def causal_attention(q, k, v, dropout=0.0):
    """Each position's weighted mean of the values that it may see.

    q: (B, H, Tq, D), k, v: (B, H, T, D) float -> (B, H, Tq, D). Where Tq < T the queries
    are the last Tq positions (a key-value cache). dropout: share of weights set to 0.
    """
    queries, keys = q.shape[-2], k.shape[-2]
    attend = F.scaled_dot_product_attention
    if queries in (1, keys):  # nothing to hide from one query; from all, the triangle
        return attend(q, k, v, dropout_p=dropout, is_causal=queries > 1)
    ones = torch.ones(queries, keys, dtype=torch.bool, device=q.device)
    seen = ones.tril(diagonal=keys - queries)
    return attend(q, k, v, attn_mask=seen, dropout_p=dropout)


# %%
for last in (T, 2, 1):
    ours = causal_attention(q[:, :, -last:], k, v)
    assert torch.allclose(ours, by_hand[:, :, -last:], atol=1e-6)

# %% [markdown] english="5c44dacd"
# ## 只用注意力，效果怎样？
#
# 用到注意力的最小模型是这样的：每个字符一个向量（**嵌入**，embedding），每个位置一个向量（**位置嵌入**，position embedding），两者相加（第 3 讲）；接着计算一次注意力；最后用这个位置自己的向量，加上它读到的内容，给每个可能的下一个字符打分（这些分数就是 **logits**）。做对比时，我们替换的就是计算注意力的那一步（代码里的 `listen`）。

# %% tags=["nbval-ignore-output"]
text, profile = corpus.load(), profiles.current()
print(text.describe())
tokenizer = CharTokenizer(text.text)
train_ids, validation_ids = split(torch.tensor(tokenizer.encode(text.text)))


# %%
class Listener(nn.Module):
    """One attention between embeddings and logits. listen: q, k, v -> (B, H, T, D)."""

    def __init__(self, vocab_size, context_length, d_model, n_heads, listen):
        super().__init__()
        self.n_heads, self.listen = n_heads, listen
        self.token = nn.Embedding(vocab_size, d_model)
        self.position = nn.Embedding(context_length, d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)  # W_q, W_k, W_v side by side
        self.out = nn.Linear(d_model, d_model, bias=False)  # W_o
        self.score = nn.Linear(d_model, vocab_size)

    def queries_keys_values(self, x):
        return (split_heads(part, self.n_heads) for part in self.qkv(x).chunk(3, dim=-1))

    def embed(self, tokens):
        return self.token(tokens) + self.position.weight[: tokens.shape[1]]

    def forward(self, tokens):
        x = self.embed(tokens)
        heard = merge_heads(self.listen(*self.queries_keys_values(x)))
        return self.score(x + self.out(heard))


# %% [markdown] english="cc97a2e4"
# 训练只有六行（[第 4 讲](04_train.ipynb)）：取一个批次，算损失，求梯度，更新参数。训练多少步，取决于你的机器（`profile`）。


# %%
steps, seeds = 3 * profile.demo_steps, range(3)


def trained(listen, n_heads, seed=0, T=32):
    """A Listener after some steps, and its loss on the last tenth in nats/character."""
    torch.manual_seed(seed)
    model = Listener(tokenizer.vocab_size, T, 64, n_heads, listen)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        tokens, targets = get_batch(train_ids, 32, T, draw)
        loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    whole = (len(validation_ids) - 1) // T * T
    with torch.no_grad():
        logits = model(validation_ids[:whole].view(-1, T)).flatten(0, 1)
    return model, F.cross_entropy(logits, validation_ids[1 : whole + 1]).item()


# %% [markdown] english="4855f7c4"
# 下面比较四种做法：不看前文；对前文求平均；用一个注意力头，由它选择关注哪里；用四个这样的头。每种用三个种子，因为损失也受随机性影响。（用双核 CPU 约需二十秒。）
#
# > **先猜。** *不看前文*只看得到一个字符，和二元语法一样；*对前文求平均*最多看到 32 个。谁的损失更低？四个头又能改进多少？


# %% tags=["nbval-ignore-output"]
def nothing(q, k, v):
    return torch.zeros_like(v)


def mean_of_the_past(q, k, v):
    """Equal weights: queries of zero fit every key alike."""
    return attention_weights(torch.zeros_like(q), k) @ v


ways = {
    "不看前文": (nothing, 1),
    "对前文求平均": (mean_of_the_past, 1),
    "一个头": (causal_attention, 1),
    "四个头": (causal_attention, 4),
}
baselines = baseline_losses(text.text)
print(f"{steps} 步，每步 32 个窗口，各用 {len(seeds)} 个种子")
print(f"二元语法（靠统计）：{baselines['bigram']:.3f} 奈特/字符")

# %% tags=["nbval-ignore-output"]
bar = tqdm(ways.items(), "方式", leave=False)
listeners = {
    name: [trained(listen, n_heads, seed) for seed in seeds] for name, (listen, n_heads) in bar
}
losses = pd.DataFrame({name: [loss for _, loss in each] for name, each in listeners.items()})
noise = losses.std()
pd.DataFrame({"平均损失": losses.mean(), "标准差": noise}).round(3)

# %% [markdown] english="8a8e8214"
# 比较差距时，要对照最后一列的标准差。*不看前文*相当于一个还没学完的二元语法模型。*对前文求平均*只改进了一点点，仍不如二元语法，也许因为许多字符平均之后，结果都差不多。会选择的头带来的改进是标准差的许多倍；用四个头，损失又降了一些。通常的猜测是：四个头可以同时关注好几样东西。

# %% [markdown] english="66e65587"
# ## 忘了掩码，会出什么错？
#
# 模型相同，步数也相同，只是看得到未来。
#
# > **先猜。** 它的损失是多少？让它写，会写出什么？

# %% tags=["nbval-ignore-output"]
without, loss_without = trained(F.scaled_dot_product_attention, 4)
masked = losses["四个头"][0]
print(f"有掩码的损失 {masked:.3f}，没有掩码的损失 {loss_without:.3f} 奈特/字符")


# %% tags=["nbval-ignore-output"]
def write(model, prompt, n_new, T=32):
    """Draw one character after the other; what comes later is not there yet."""
    generator, out = torch.Generator().manual_seed(0), tokenizer.encode(prompt)
    for _ in range(n_new):
        logits = model(torch.tensor([out[-T:]]))[0, -1]
        out.append(torch.multinomial(logits.softmax(-1), 1, generator=generator).item())
    return tokenizer.decode(out)


line = tokenizer.decode(validation_ids[:20].tolist())
for name, listener in {"有": listeners["四个头"][0][0], "没有": without}.items():
    print(f"--- {name}掩码\n{write(listener, line[:9], 100)}\n")

# %% [markdown] english="44d1622d"
# 损失低到任何不作弊的模型都达不到，写出来的却像卡住了一样，不断重复。这是“作弊”模型的注意力图：

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    q, k, _ = without.queries_keys_values(without.embed(validation_ids[None, :20]))
    cheat = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)[0]
ahead = cheat.diagonal(1, -2, -1).mean()
print(f"落在下一个位置上的权重（对所有头和所有行取平均）：{ahead:.2f}")
heads = [f"头 {h}" for h in range(1, len(cheat) + 1)]
labels, title = ("查询", "键", "权重"), "“作弊”的模型：没有掩码"
figures.heatmaps(cheat, line, line, heads, labels, title=title, note=text.note)

# %% [markdown] english="9e9dfb29"
# 权重落在对角线*右边*一格，就在答案上。轮到模型自己写的时候，没有答案可看。症状和第 1 讲里的一样：**损失接近零，说明输入里泄漏了答案。**

# %% [markdown] english="b5f7eb57"
# ## 训练好的头在看什么
#
# 不作弊的头学到了什么？这里用一个训练好的模型：如果你跑过第 5 讲，就用你训练的；否则用课程自带的；如果自带的也没有，就现场训练一个小的。L2:H1 是它第二**层**（layer）的第 1 个头；一层先计算注意力，再对每个位置分别处理。查询和键还经过缩放，并按位置旋转（第 3 讲）。

# %% tags=["nbval-ignore-output"]
model, record = runs.small_model(text)
maps = evaluation.attention_maps(model, validation_ids[None, :20])
second = {name: weights for name, weights in maps.items() if name.startswith("L2")}
few = dict(list(second.items())[:4])
labels, title = ("查询", "键", "权重"), "谁关注谁（第 2 层）"
shown = torch.stack(list(few.values()))
figures.heatmaps(shown, line, line, list(few), labels, title=title, note=text.note)

# %% [markdown] english="c8774693"
# 权重多半在对角线附近，个别行看得更远。
#
# 换一段更长的文字：有多少注意力给了字符*自己*、*前一个*字符、更早出现的*相同字符*、更早的*空白*（空格和换行），又有多少给了*别处*？*平均分配*是一个不作选择的头。
#
# > **先猜。** 有没有哪个头专门关注其中一类？

# %%
stretch = validation_ids[: min(128, model.config.context_length)]
n = len(stretch)
gap = torch.tensor([c.isspace() for c in tokenizer.decode(stretch.tolist())]).float()
places = {
    "自己": torch.eye(n),
    "前一个": torch.ones(n, n).tril(-1).triu(-1),
    "相同字符": (stretch[:, None] == stretch).float().tril(-2),
    "空白": gap.expand(n, n).tril(-2),
}
places["相同字符"] = places["相同字符"] * (1 - places["空白"])  # each place in one column
places["别处"] = torch.ones(n, n).tril() - sum(places.values())

# %% tags=["nbval-ignore-output"]
maps = evaluation.attention_maps(model, stretch[None])
maps["平均分配"] = torch.ones(n, n).tril() / torch.arange(1, n + 1)[:, None]
shares = [[(w * place).sum(-1).mean() for place in places.values()] for w in maps.values()]
labels = ("层和头", "关注的对象", "比例")
title = "每个头关注什么"
figures.heatmaps(shares, list(maps), list(places), labels=labels, title=title, note=text.note)

# %% [markdown] english="99b89682"
# 各个头各有偏重，但没有哪个只关注一类：在课程自带的模型里，每个头给前一个字符的都比*平均分配*多（.15 到 .39，*平均分配*是 .03），给空白的则只有 L2:H1 更多（.24，*平均分配*是 .16）。给*别处*的这部分还解释不了。注意力图告诉你一个头在*看*哪里；它*重不重要*，要把它关掉才能测出来（第 4 讲）。
#
# 把鼠标移到一个字符上（也可以用方向键）：每一条色带代表一个头，显示它在这个位置关注哪些字符。点一个头的名称，就关掉这个头，并显示损失因此变化多少。文字可以改。

# %% tags=["nbval-ignore-output"]
widgets.inside({"2 layers": model}, tokenizer, tokenizer.decode(validation_ids[:120]), model=0)

# %% [markdown] english="edf0d83e"
# ## 损失记录
#
# 没有掩码的模型不列入：它的损失算不上预测的成绩。

# %% tags=["nbval-ignore-output"]
log = baselines | losses.mean().to_dict()
loss_log = pd.DataFrame({"奈特/字符": log}).sort_values("奈特/字符", ascending=False)
loss_log["困惑度"] = loss_log["奈特/字符"].map(math.exp)
loss_log.round(3)

# %% tags=["nbval-ignore-output"]
figures.loss_bars(log, title="注意力能达到的损失，与统计模型对照", note=text.note)

# %% [markdown] english="464c188a"
# 只有一次注意力，又几乎没怎么训练，就已经胜过二元语法，但离 5-gram 还有距离，更不用说 Kneser–Ney。还缺的零件，第 3 讲会逐个加进来试。

# %% [markdown] english="254b3994"
# ## 本讲小结
#
# 你从对前文求平均开始，一步步写出了多头注意力：各个头自己选择关注哪里，结果与 PyTorch 的一致。

# %% [markdown] english="09d7d733"
# ## 思考
#
# **1.** 掩码为什么必须加在 softmax 之前？
#
# <details><summary>答案</summary>
#
# 如果加在 softmax 之后，每个权重的分母里就已经有了未来的分数：各行之和不再是 1，前文的权重也仍然受未来影响。</details>
#
# **2.** 如果 softmax 沿着查询计算，会出什么问题？上面哪个 assert 会发现？
#
# <details><summary>答案</summary>
#
# 每列之和会是 1，每行之和则不再是：每个位置*得到*多少注意力，就固定了。第 4 步的第一个 assert 会发现，第三个也会：第一列的总和，要由第一个位置与后面所有位置来分。</details>

# %% [markdown] english="c7569070"
# **3.** 没有位置信息的注意力：把前面的词元打乱，最后一个输出会变吗？
#
# <details><summary>答案</summary>
#
# 不会：键和值一起移动，而求和与顺序无关。所以第 3 讲要加入位置信息。试一试：
#
# ```python
# q, k, v = (torch.randn(2, 3, 5, 7) for _ in range(3))
# last, mixed = q[:, :, -1:], torch.tensor([2, 0, 3, 1, 4])
# print(causal_attention(last, k, v) - causal_attention(last, k[:, :, mixed], v[:, :, mixed]))
# ```
#
# </details>
#
# **4.** 一个头把全部权重都给了第一个位置。它可能在做什么？
#
# <details><summary>答案</summary>
#
# 也许它此时无事可做：权重之和必须是 1，而第一个位置的值可能影响很小（*attention sink*，注意力汇）。只有关掉它才知道。</details>

# %% [markdown] english="16bcac0f"
# ## 练习
#
# 把 `...` 或 `None` 换成答案，然后运行这个单元格。检查会显示*正确*或*还不对*；不对时，还会列出测试输入、期望的结果、实际返回的结果和可能的原因。
#
# ### 练习 2.1 · 热身 · 5 分钟
#
# 写出掩码：一个形状为 `(T, T)` 的布尔张量。行对应查询，列对应键；某行的查询*可以*关注某列的键（包括自己），那一格就是 True。
#
# <details><summary>提示 1</summary>
#
# 第 $t$ 行有 $t + 1$ 个 True。写出 `T = 3` 的情形。</details>
#
# <details><summary>提示 2</summary>
#
# `tril` 保留左下角；`torch.ones` 可以指定 `dtype`。</details>


# %% tags=["exercise"]
def may_listen(T):
    """-> (T, T) bool."""
    ...


checks.check("2.1", may_listen)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def may_listen(T):
    return torch.ones(T, T, dtype=torch.bool).tril()


checks.check("2.1", may_listen, quiet=True)

# %% [markdown] english="213efe03"
# ### 练习 2.2 · 热身 · 5 分钟
#
# 按照下面打印的大小，动手算一算：对一个批次，一次注意力要计算多少个分数 $q \cdot k$？其中有多少个没有被掩码遮住？
#
# <details><summary>提示 1</summary>
#
# 每条序列、每个头里，每一对位置有一个分数。</details>
#
# <details><summary>提示 2</summary>
#
# 三角形里有 $1 + 2 + … + T$ 个格子，包括对角线。</details>

# %%
print(checks.sizes("2.2"))

# %% tags=["exercise"]
computed, surviving = None, None

checks.check("2.2", computed and (computed, surviving))

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
size = checks.sizes("2.2")
rows = size["B"] * size["H"] * size["T"]
computed, surviving = rows * size["T"], rows * (size["T"] + 1) // 2

checks.check("2.2", (computed, surviving), quiet=True)

# %% [markdown] english="a344a13a"
# ### 练习 2.3 · 核心 · 15 分钟
#
# 不用 `softmax`，写出沿最后一个轴的 softmax。遇到 1,000 或 $-\infty$（不会占满整行）这样的分数，都不能产生 `nan`。
#
# <details><summary>提示 1</summary>
#
# $e^{1000}$ 是 `inf`，而 `inf / inf` 是 `nan`。给整行加上同一个数，权重都不变。</details>
#
# <details><summary>提示 2</summary>
#
# 加上哪个数，能让最大的指数变成 0？记得保留这个轴（`keepdim=True`）。</details>


# %% tags=["exercise"]
def softmax(scores):
    """scores: (..., T) float -> weights (..., T), each row sums to 1."""
    ...


checks.check("2.3", softmax)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def softmax(scores):
    e = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return e / e.sum(dim=-1, keepdim=True)


checks.check("2.3", softmax, quiet=True)

# %% [markdown] english="5f5a19bf"
# ### 练习 2.4 · 核心 · 20 分钟
#
# 处理长文本时，会用*滑动窗口*：每个位置只关注自己和前面 `width - 1` 个位置。把它写出来，包括缩放和掩码。
#
# <details><summary>提示 1</summary>
#
# 从查询 $i$ 到键 $j$，哪些距离 $i - j$ 可以保留？</details>
#
# <details><summary>提示 2</summary>
#
# 改掉 `attention_weights` 里的掩码。`width = 1` 时，答案就是 `v`。</details>


# %% tags=["exercise"]
def sliding_attention(q, k, v, width):
    """q, k, v: (B, H, T, D) float, width: at least 1 -> (B, H, T, D)."""
    ...


checks.check("2.4", sliding_attention)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def sliding_attention(q, k, v, width):
    T, D = q.shape[-2:]
    seen = torch.ones(T, T, dtype=torch.bool).tril().triu(1 - width)
    scores = (q @ k.transpose(-2, -1) / math.sqrt(D)).masked_fill(~seen, -math.inf)
    return scores.softmax(dim=-1) @ v


checks.check("2.4", sliding_attention, quiet=True)

# %% [markdown] english="55beb31e"
# ### 练习 2.5 · 挑战 · 90 分钟
#
# FlashAttention（Dao 等，2022）的想法是：任何时候都不同时保存全部分数。写出因果注意力，每次只处理一块，即 `size` 个键。对每个查询只记目前最大的分数、指数之和、值的加权和。
#
# 然后算一算：`T = 8192` 时，一个头、float32，这些分数要占多少内存？与 `attention_weights` 比较。
#
# <details><summary>答案</summary>
#
# 一次全算：每个头、每条序列需要 8192² × 4 字节 = 256 MiB，softmax 还会再复制一份。每块 64 个键：8192 × 64 × 4 字节 = 2 MiB。</details>

# %% [markdown] english="7b3442c6"
# <details><summary>提示 1</summary>
#
# 新的一块让最大值从 $m$ 升到 $m'$ 时，此前的各个和都偏大，是应有值的 $e^{m' - m}$ 倍。只在最后除一次。</details>
#
# <details><summary>提示 2</summary>
#
# 开始时，最大值取 $-\infty$，各个和取 0。第一块里有键 0，每个查询都看得到它，所以不会出现 $-\infty - (-\infty)$。</details>


# %% tags=["exercise"]
def attention_in_blocks(q, k, v, size):
    """q, k, v: (B, H, T, D) float -> (B, H, T, D), with at most size keys at a time."""
    ...


checks.check("2.5", attention_in_blocks)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def attention_in_blocks(q, k, v, size):
    T, D = q.shape[-2:]
    largest, total, heard = torch.full((*q.shape[:-1], 1), -math.inf), 0.0, 0.0
    for start in range(0, T, size):
        keys = slice(start, start + size)
        scores = q @ k[:, :, keys].transpose(-2, -1) / math.sqrt(D)
        future = torch.arange(T)[keys] > torch.arange(T)[:, None]
        scores = scores.masked_fill(future, -math.inf)
        new = torch.maximum(largest, scores.amax(dim=-1, keepdim=True))
        shrink, e = (largest - new).exp(), (scores - new).exp()
        total = total * shrink + e.sum(dim=-1, keepdim=True)
        heard = heard * shrink + e @ v[:, :, keys]
        largest = new
    return heard / total


checks.check("2.5", attention_in_blocks, quiet=True)

# %% [markdown] english="04c06ca3"
# ### 练习 2.6 · 核心 · 30 分钟
#
# 这道题写完整的注意力：由 x 和四个矩阵算出因果多头注意力。`W_q`、`W_k` 和 `W_v` 的前 `D` 列属于第一个头，接下来的 `D` 列属于第二个头。检查时与 PyTorch 的 `nn.MultiheadAttention` 对照。
#
# <details><summary>提示 1</summary>
#
# 三次矩阵乘法；切成多个头；`attention_weights(q, k) @ v`；并排拼好；再乘一次。</details>
#
# <details><summary>提示 2</summary>
#
# `split_heads` 和 `merge_heads` 负责换轴。要除以的是 √D，其中 D = C / n_heads，而不是 √C。</details>


# %% tags=["exercise"]
def multi_head_attention(x, W_q, W_k, W_v, W_o, n_heads):
    """x: (B, T, C), each W: (C, C), applied as x @ W -> (B, T, C)."""
    ...


checks.check("2.6", multi_head_attention)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def multi_head_attention(x, W_q, W_k, W_v, W_o, n_heads):
    q, k, v = (split_heads(x @ W, n_heads) for W in (W_q, W_k, W_v))
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    future = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)
    weights = scores.masked_fill(future, -math.inf).softmax(dim=-1)
    return merge_heads(weights @ v) @ W_o


checks.check("2.6", multi_head_attention, quiet=True)

# %% [markdown] english="f265fd83"
# ## 自测
#
# 先选，再展开答案。
#
# **1.** 一个头的注意力权重，第一行里有什么是训练能改变的？(a) 关注的位置 · (b) 什么也没有 · (c) 权重的集中程度。
#
# <details><summary>答案</summary>
#
# (b)：只有一个分数时，softmax 的结果是 1。(a) 和 (c) 都得有第二个键才行。</details>

# %% [markdown] english="fde974a8"
# **2.** 位置数 `T` 加倍，一层的分数个数……(a) 加倍 · (b) 变成四倍 · (c) 不变。
#
# <details><summary>答案</summary>
#
# (b)：每个位置都要与每个位置算一个分数。(a) 说的是查询的个数，(c) 说的是*可学习的*权重的个数。</details>

# %% [markdown] english="9f3a62df"
# **3.** `C` 不变，`H` 加倍，注意力里可学习的权重的个数……(a) 加倍 · (b) 不变 · (c) 减半。
#
# <details><summary>答案</summary>
#
# (b)：只是通道的切法变了。(a) 要每个头的宽度仍和原来一样才行；(c) 忽略了头的个数也加倍了。</details>

# %% [markdown] english="4e124ac3"
# **4.** 不除以 √D，而是除以 `D`，会……(a) 让权重几乎均等 · (b) 让几乎全部权重落到一个位置 · (c) 毫无影响，矩阵会学着补偿。
#
# <details><summary>答案</summary>
#
# (a)：分数小，softmax 的结果就接近均匀。(b) 是完全不除时的情形。(c) 只对了一半：矩阵可以补偿，但一开始权重几乎相等。</details>

# %% [markdown] english="4e6804e1"
# **5.** 你的验证损失是 0.08。首先该怀疑的是……(a) 随机性 · (b) 掩码 · (c) 头太多。
#
# <details><summary>答案</summary>
#
# (b)。在这里，(a) 只带来千分之几奈特的差别，(c) 也只有百分之几奈特。</details>

# %% [markdown] english="6c34af99"
# **下一讲：** [3 · 模型](03_model.ipynb)，注意力会成为其中每个块的前一半。
