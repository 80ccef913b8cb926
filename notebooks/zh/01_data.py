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

# %% [markdown] english="5b460216"
# # 1 · 数据：文本变成数字
#
# 语言模型做的事，就是猜接下来是什么。要让它猜，先得把文本变成数字；要评判它猜得好不好，还得知道只靠统计频次能做到什么程度。这一讲里最好的统计模型，就是 Transformer 要超过的基线。

# %% [markdown] english="d138ab64"
# **你将学会**：把文本变成整数，再变回来 · 正确划分数据，不高估模型的成绩 · 取出训练批次 · 读懂损失和困惑度 · 搭一个很难超过的 n 元语法模型。
#
# **预备知识**：Python、[二十行 PyTorch](../../book/zh/pytorch.md)、概率的基本概念。**时间**：阅读约 40 分钟；运行代码约半分钟；做完核心练习约一小时。

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

# %%
import random
import re
from collections import Counter

import pandas as pd

from course_utils import checks, corpus, figures

# %% tags=["export"]
import math

import torch

# %% [markdown] english="128a96c1"
# ## 文本
#
# Tiny Shakespeare 收录了莎士比亚剧本中的约 40,000 行。如果下载不了，就改用一份*练习文本*，它由课程自己的模型写成：这时 `text.is_real` 是 False，图旁会标出 `text.note`。

# %% tags=["nbval-ignore-output"]
text = corpus.load()
print(text.describe())
print(text.text[:250])

# %% [markdown] english="c4b3116b"
# 总共只有六十五种字符：字母、标点、一个数字、空格和换行。
#
# > **先猜。** 哪个字符出现得最多？前三名合起来占全文的百分之几？

# %%
counts = pd.Series(list(text.text)).value_counts()
share = counts.head(3).sum() / counts.sum()
print(f"{len(counts)} 种字符；最常见的三种占 {share:.0%}")
figures.character_counts(counts.head(30), note=text.note)

# %% [markdown] english="4ff3b91f"
# 空格居首，然后是 *e*、*t* 和 *o*。（最少见的 35 种没有画出。）

# %% [markdown] english="e9f22be6"
# ## 为什么用字符，不用词？
#
# 以词为单位的模型要猜的次数更少，但有两个代价：每个词都要有自己的向量，而且总有些词没见过。
#
# > **先猜。** 最后十分之一的文本里，有百分之几的词（重复的也算）没见过？

# %%
cut = int(0.9 * len(text.text))
first, last = text.text[:cut], text.text[cut:]
words_of = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*").findall  # letters, apostrophes inside
words, known = set(words_of(text.text)), set(words_of(first))
print(f"不同的词 {len(words):,} 个，不同的字符 {len(counts)} 种")
new = [word not in known for word in words_of(last)]
print(f"从没见过的：词有 {sum(new) / max(1, len(new)):.1%}，", end=" ")
print(f"字符有 {len(set(last) - set(first))} 种")

# %% [markdown] english="60bef13c"
# 对这样的词，模型一无所知。大模型把文本切成常见的*片段*，也就是子词（练习 1.5）。我们用的字符种类很少，也不会遇到没见过的；代价是小模型要花一部分容量去学拼写。
#
# ## 字符变成整数
#
# **分词器**（tokenizer）把文本变成整数，再变回来。在我们这里，每个字符是一个**词元**（token），它的 id 就是它在排好序的字符表里的位置：一个字典就够了。

# %%
alphabet = sorted(set("to be or not to be"))
id_of = {character: i for i, character in enumerate(alphabet)}
print(alphabet)
print([id_of[character] for character in "robot"])

# %% [markdown] english="71286014"
# 下面的类补上变回文本的方法，并且拒绝未知字符：如果悄悄丢掉它们，你的提示文本就变了，你却会怪到模型头上。


# %% tags=["export"]
class CharTokenizer:
    """Characters to integers and back: a character's id is its place in the alphabet.

    text: any string; its distinct characters, sorted, become the alphabet. An unknown
    character (or id) raises a ValueError that names it.
    """

    def __init__(self, text):
        if not text:
            raise ValueError("a tokenizer needs a text with at least one character")
        self.alphabet = "".join(sorted(set(text)))
        self.vocab_size = len(self.alphabet)
        self._id_of = {character: i for i, character in enumerate(self.alphabet)}

    def encode(self, text):
        try:
            return [self._id_of[character] for character in text]
        except KeyError:
            unknown = "".join(sorted(set(text) - set(self.alphabet)))
            some = f"{self.vocab_size}, beginning with {self.alphabet[:20]!r}"
            message = f"unknown characters {unknown[:20]!r}; allowed are {some}"
            raise ValueError(message) from None

    def decode(self, ids):
        ids = [int(i) for i in ids]
        if ids and not 0 <= min(ids) <= max(ids) < self.vocab_size:
            raise ValueError(f"ids must lie in 0 … {self.vocab_size - 1}")
        return "".join(self.alphabet[i] for i in ids)


# %%
tokenizer = CharTokenizer(text.text)
ids = torch.tensor(tokenizer.encode(text.text))
assert tokenizer.decode(ids) == text.text, "编码不丢失任何信息"
if text.is_real:
    assert tokenizer.vocab_size == 65, "Tiny Shakespeare 有 65 种不同的字符"
print(f"{len(ids):,} 个 id，前十个：{ids[:10].tolist()}")

# %%
try:
    CharTokenizer("abc ").encode("a cab №5")
except ValueError as error:
    print(error)

# %% [markdown] english="0368d780"
# ## 训练与验证
#
# 前十分之九用来训练模型，最后十分之一用来评估，这一段模型从没见过。机器学习大多先打乱再划分，我们却只按**位置**切一刀。


# %% tags=["export"]
def split(ids, fraction=0.9):
    """The first `fraction` of the ids for training, the rest for validation."""
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, not {fraction!r}")
    cut = int(fraction * len(ids))
    return ids[:cut], ids[cut:]


# %%
train_ids, validation_ids = split(ids)
n_train, n_validation = len(train_ids), len(validation_ids)
assert n_train + n_validation == len(ids), "每个字符都用到，且只用一次"
if text.is_real:
    assert (n_train, n_validation) == (1_003_854, 111_540), "通常的 90/10 划分"
unseen = set(validation_ids.tolist()) - set(train_ids.tolist())
print(f"{n_train:,} 个字符用来学习，{n_validation:,} 个用来评估")
print(f"只在最后十分之一里出现的字符种数：{len(unseen)}")

# %% [markdown] english="6d13f5d7"
# 如果先打乱各行再划分，最后十分之一里某一行在原文中的前后几行，就会落到训练文本里：人名相同，讲的也是同一段情节。
#
# > **先猜。** 最后十分之一会更好猜，还是更难猜？模型会变好吗？

# %% [markdown] english="8a99b994"
# ## 批次
#
# 训练的每一步取 `B` 个窗口，每个窗口是从随机位置开始的连续 `T` 个字符。每个位置的问题都是“下一个字符是什么？”，所以答案就是同样的窗口往后挪一位：`targets[t] = tokens[t + 1]`。


# %% tags=["export"]
def get_batch(ids, batch_size, context_length, generator=None):
    """Random windows and, for each position, the token that comes next.

    ids: (N,) int64 -> tokens, targets: (B, T) int64, targets one ahead of tokens.
    generator: a torch.Generator; the same seed draws the same windows.
    """
    N, T = len(ids), context_length
    if N <= T:
        raise ValueError(f"{N} tokens are too few: a context of {T} takes {T + 1}")
    starts = torch.randint(N - T, (batch_size, 1), generator=generator)
    index = (starts + torch.arange(T)).to(ids.device)  # (B, T)
    return ids[index], ids[index + 1]


# %%
B, T = 2, 11
tokens, targets = get_batch(train_ids, B, T, torch.Generator().manual_seed(5))
assert tokens.shape == targets.shape == (B, T)
assert torch.equal(tokens[:, 1:], targets[:, :-1]), "目标就是后一位的词元"
for row in range(B):
    print(f"{tokenizer.decode(tokens[row])!r} -> {tokenizer.decode(targets[row])!r}")

# %%
asked, answers = tokenizer.decode(tokens[0]), tokenizer.decode(targets[0])
figures.shifted(asked, answers, title="每个位置的答案，就是下一个字符")

# %% [markdown] english="710e1eeb"
# 虚线两端是同一个词元：它在一个位置上是目标，到下一个位置上就是输入。窗口有 11 个字符，就有 11 个问题，前四个是：

# %%
for t in range(4):
    before = tokenizer.decode(tokens[0, : t + 1])
    after = tokenizer.decode(targets[0, t : t + 1])
    print(f"{before!r:>10} 之后是 {after!r}")

# %% [markdown] english="c7c8feb5"
# 这 `T` 个问题，Transformer 是同时回答的。
#
# **忘了挪这一位，会怎样？** 这时，每个位置的答案就成了模型刚读到的那个字符。统计这些“答案”，就知道模型会学到什么。
#
# > **先猜。** 在最后十分之一上，这样的模型能猜对百分之几？让它写，又会写出什么？

# %%
unshifted = torch.zeros(tokenizer.vocab_size, tokenizer.vocab_size)
# Add 1 at [a, b] for each pair of a from the first tensor and b from the second.
unshifted.index_put_((train_ids, train_ids), torch.tensor(1.0), accumulate=True)
answer = unshifted.argmax(dim=1)  # of each character, the most frequent
right = (answer[validation_ids] == validation_ids).float().mean()
letter = counts.index[2]
written = tokenizer.decode([answer[tokenizer.encode(letter)[0]]] * 10)
print(f"猜对 {right:.0%}；在 {letter!r} 之后写出 {written!r}")

# %% [markdown] english="5ba576fd"
# 成绩是满分，写出来的文本却像键盘卡住了一个键。换成*损失*（下一节定义），这个成绩就是 0：**损失接近零，说明输入里泄漏了答案。** 到第 2 讲，同样的问题藏得更深。

# %% [markdown] english="5d6526d6"
# ## 怎样衡量猜得好不好？
#
# 模型给每个可能的下一个字符一个概率 $p$。对实际出现的那个字符，$-\ln p$ 就是**单个词元的损失**（token loss），也叫**负对数似然**（negative log-likelihood）：如果模型百分之百肯定会是它，损失就是 0；它越出乎模型的意料，损失越大。这些损失的均值就是**损失**（loss），全名是**交叉熵**（cross-entropy），单位是“奈特/字符”。**奈特**（nat）是取自然对数时的单位：ln 2 奈特等于一比特。

# %%
p = torch.linspace(0.01, 1, 100)
curve = {"单个词元的损失": (1 / p).log()}
title = "把握十足却猜错，损失很大"
figures.lines(p, curve, "实际出现的字符的概率", "单个词元的损失（奈特）", title=title)

# %% [markdown] english="575c9d97"
# 概率减半，损失就增加 $\ln 2$。在 $p = 0$ 处，损失是无穷大，所以好的模型从不把任何字符的概率定为零。
#
# 如果猜的正是真实的概率 $p$，平均损失就是 $-\sum p \ln p$，叫作**熵**（entropy）；如果猜的是 $q$，就是交叉熵 $-\sum p \ln q$，它绝不会比熵小。所以任何模型的损失都不可能低于文本的熵，而这个熵谁也不知道；为了估计它，Shannon（1951）请人来猜。
#
# **困惑度**（perplexity）是 $e^{\text{loss}}$：猜的难度，相当于从这么多个等可能的选项里猜一个。抛硬币是 2，掷骰子是 6，灌了铅的骰子要小一些：只要知道它偏向哪一面，就可以往那一面押。

# %%
loaded, fair = [1 / 2] + [1 / 10] * 5, [1 / 6] * 6
games = {"硬币": ([1 / 2] * 2, [1 / 2] * 2), "骰子": (fair, fair)}
games |= {"灌铅的骰子": (loaded, loaded), "灌铅的骰子，当成没灌的来猜": (loaded, fair)}
for name, (p, q) in games.items():
    loss = -sum(true * math.log(guess) for true, guess in zip(p, q, strict=True))
    print(f"{loss:.3f} 奈特，难度相当于 {math.exp(loss):.2f} 个等可能的选项：{name:24}")

# %% [markdown] english="220c7867"
# ## 阶梯：从最笨的模型一级级往上
#
# 最笨的模型给全部 65 个字符同样的概率。

# %%
uniform = math.log(tokenizer.vocab_size)
print(f"均匀：{uniform:.3f} 奈特/字符，困惑度 {math.exp(uniform):.1f}")

# %% [markdown] english="3484880f"
# 再上一级，是一元语法（unigram）模型。它知道频次：每个字符的损失，就是对它在训练文本里所占的比例取 $-\ln$。
#
# > **先猜。** 困惑度会从 65 降到多少？

# %%
share = torch.bincount(train_ids, minlength=tokenizer.vocab_size) / len(train_ids)
unigram = -share[validation_ids].log().mean().item()
print(f"一元语法：{unigram:.3f} 奈特/字符，困惑度 {math.exp(unigram):.1f}")

# %% [markdown] english="9809e409"
# **二元语法**（bigram）模型往回看一个字符：*q* 后面是 *u*。它需要一张字符对的计数表，每一格都先加上 1。

# %%
pairs = torch.zeros(tokenizer.vocab_size, tokenizer.vocab_size)
pairs.index_put_((train_ids[:-1], train_ids[1:]), torch.tensor(1.0), accumulate=True)
after = (pairs + 1) / (pairs + 1).sum(dim=1, keepdim=True)
bigram = -after[validation_ids[:-1], validation_ids[1:]].log().mean().item()
print(f"二元语法：{bigram:.3f} 奈特/字符，困惑度 {math.exp(bigram):.1f}")

# %%
common = [tokenizer.encode(c)[0] for c in counts.index[:16]]
names = tokenizer.decode(common)
labels = ("这个字符", "下一个字符", "概率")
title = "一个字符之后跟着另一个字符的概率"
table = after[common][:, common]
figures.heatmaps(table, names, names, labels=labels, title=title, note=text.note)

# %% [markdown] english="d79404d6"
# 一行一行地读：*t* 之后 *h* 很亮，*h* 之后 *e* 很亮；到了 *y* 或 *d*，单词常常就结束了。（⏎ 那行大多是暗的：跟在它后面的大写字母，图上没有画。）
#
# **不加那个 1，会怎样？** 数一数最后十分之一里没见过的字符对。

# %%
never = pairs[validation_ids[:-1], validation_ids[1:]] == 0
raw = pairs / pairs.sum(dim=1, keepdim=True)
loss = -raw[validation_ids[:-1], validation_ids[1:]].log().mean()
print(f"{len(never):,} 对里有 {never.sum()} 对从没见过；", end=" ")
print(f"不加 1 的损失是 {loss}")

# %% [markdown] english="e19bda40"
# ## 往回多看几个字符
#
# 连续的 $n$ 个字符叫作 **n 元语法**（n-gram）。**阶**（order）为 $n$ 的模型，根据前面的 $n - 1$ 个字符（也就是*上下文*）猜最后一个；二元语法的阶是 2。五个字符的上下文有十亿种可能，大多数从没见过。

# %% [markdown] english="5e2a4130"
# 办法是平滑（smoothing）：长上下文出现得越多，就越信它，其余的权重交给短一点的上下文。Witten 和 Bell 的规则（1991）只用两个计数：$c(h)$ 是上下文 $h$ 出现的次数，$t(h)$ 是跟在它后面的*不同*字符有多少种。种类一多，下一个字符就难料，也就少信一些。用 $w$ 表示下一个字符：
#
# $$p(w\mid h) = \frac{c(hw) + t(h)\, p(w\mid h')}{c(h) + t(h)},\qquad h' \text{ 是 } h \text{ 去掉最早的一个字符。}$$
#
# 上下文为空时，没有更短的可退，就退回到均匀分布 $1/V$。（这种写法见 Chen 和 Goodman，1999。）以一个单词为例：

# %%
word, followers = "abracadabra", {}
for n in (0, 1):  # the length of the context
    for i in range(n, len(word)):
        followers.setdefault(word[i - n : i], Counter())[word[i]] += 1


def p_after(h, w):
    shorter = p_after(h[1:], w) if h else 1 / len(set(word))
    c, t = followers[h].total(), len(followers[h])
    return (followers[h][w] + t * shorter) / (c + t)


# %% [markdown] english="b674d9b4"
# 手算一遍。11 个字母里有 2 个 *b*，字母一共 5 种，所以不看上下文时，*b* 的概率是 $(2 + 5 \cdot \frac{1}{5}) / (11 + 5) = 3/16$。*a* 后面，*b* 出现过两次，另外两个字母各出现一次：$c(h) = 4$，$t(h) = 3$。

# %%
assert p_after("a", "b") == (2 + 3 * 3 / 16) / (4 + 3)
assert abs(sum(p_after("a", w) for w in set(word)) - 1) < 1e-12, "是一个概率分布"
print(f"p(b | a) = {p_after('a', 'b'):.3f}")

# %% [markdown] english="950cfeef"
# 字符有一百万个时，这样太慢，所以改用张量来统计：把每个 n-gram 看成一个 $V$ 进制的整数。这里 $a, b, c, d, r$ 是 $0 … 4$，$V = 5$，所以 *ab* 是 $0 \cdot 5 + 1 = 1$。用 $V$ 整除，就去掉了最后一个字母。*不同*的字母对里，*ab*、*ac*、*ad* 都剩下 *a*：一共三次，这就是 $t(h)$。


# %% tags=["export"]
def ngram_codes(ids, n, vocab_size):
    """Each n-gram as one integer in base V: (N,) int64 -> (N - n + 1,) int64."""
    places = vocab_size ** torch.arange(n - 1, -1, -1, device=ids.device)
    return (ids.unfold(0, n, 1) * places).sum(-1)


# %% tags=["export"]
def lookup(keys, values, wanted):
    """values[i] where keys[i] == wanted, else 0: (K,) sorted, (K,), (N,) -> (N,)."""
    i = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[i] == wanted, values[i], 0)


# %% tags=["export"]
def count_ngrams(codes, vocab_size):
    """-> n-grams and their counts: (K,); contexts, their c(h) and their t(h): (M,)."""
    grams, counts = codes.unique(return_counts=True)
    before = grams // vocab_size  # without the last character: its context
    # at: which of the contexts each n-gram has, so that their counts can be added up
    contexts, at, types = before.unique(return_inverse=True, return_counts=True)
    totals = torch.zeros_like(types).index_add_(0, at, counts)
    return grams, counts, contexts, totals, types


# %% [markdown] english="8ec69465"
# 上面的函数返回五张表，模型为每一阶各保存这样五张。求概率时，从均匀分布出发往上算。以 *abra* 为例：开始时是四个 1/5；然后是 $p(a), p(b), p(r), p(a)$；到 2 阶时，除第一个以外（即 `p[n - 1 :]`），都换成 $p(b\mid a), p(r\mid b), p(a\mid r)$。


# %% tags=["export"]
class WittenBell:
    """An n-gram model that trusts each context as far as it has seen it.

    p(w|h) = (c(hw) + t(h) p(w|h')) / (c(h) + t(h)). Witten and Bell (1991), method C.
    """

    def __init__(self, ids, order, vocab_size):
        if not 1 <= order <= len(ids) or vocab_size**order >= 2**63:
            sizes = f"{len(ids)} tokens of {vocab_size} characters"
            raise ValueError(f"order {order} is not allowed for {sizes}")
        self.vocab_size, self.order = vocab_size, order
        self.tables = [self.count(ids, n) for n in range(1, order + 1)]

    def count(self, ids, n):
        return count_ngrams(ngram_codes(ids, n, self.vocab_size), self.vocab_size)

    def probabilities(self, ids):
        """p of every token but the first, given those before it: (T,) -> (T - 1,)."""
        p = torch.full((len(ids),), 1 / self.vocab_size, dtype=torch.float64)
        for n, table in enumerate(self.tables[: len(ids)], start=1):
            grams, counts, contexts, totals, types = table
            gram, shorter = ngram_codes(ids, n, self.vocab_size), p[n - 1 :]
            c, t = (lookup(contexts, x, gram // self.vocab_size) for x in (totals, types))
            mixed = (lookup(grams, counts, gram) + t * shorter) / (c + t).clamp(min=1)
            p[n - 1 :] = torch.where(c > 0, mixed, shorter)
        return p[1:]

    def loss(self, ids):
        """The mean token loss in nats/character over every token but the first."""
        return -self.probabilities(ids).log().mean().item()


# %%
small = CharTokenizer(word)
tensors = WittenBell(torch.tensor(small.encode(word)), 2, small.vocab_size)
pair = tensors.probabilities(torch.tensor(small.encode("ab")))
assert abs(pair.item() - p_after("a", "b")) < 1e-12, "是同一条规则"

# %% [markdown] english="a699728b"
# > **先猜。** 6 阶会比 5 阶好吗？在训练文本上呢？

# %%
V = tokenizer.vocab_size
orders = [n for n in range(1, 9) if V**n < 2**63]  # an n-gram must be one integer
counters = {n: WittenBell(train_ids, n, V) for n in orders[:6]}
n_gram = {n: counter.loss(validation_ids) for n, counter in counters.items()}
counted = [counter.loss(train_ids[:n_validation]) for counter in counters.values()]
for order, loss in n_gram.items():
    print(f"{order} 阶：{loss:.3f} 奈特/字符，困惑度 {math.exp(loss):5.2f}")
curves = {"最后十分之一": list(n_gram.values()), "训练文本": counted}
look = {"title": "阶数越高，训练文本越好猜", "note": text.note}
figures.lines(orders[:6], curves, "阶", "损失（奈特/字符）", **look)

# %% [markdown] english="08866472"
# 再高一阶，模型在新文本上变差了，在训练文本上却好得多：这是你第一次遇到**过拟合**（overfitting）。问题出在哪里？按较长的上下文在训练文本里出现过几次，把各个位置分组，看每一组里，高一阶的损失高出多少。

# %%
n = orders[:6][-1]  # 6, unless the alphabet is huge
five, six = (counters[order].probabilities(validation_ids) for order in (n - 1, n))
harm = (five / six)[n - 2 :].log()  # what order 6 costs more, after five characters
_, _, contexts, totals, _ = counters[n].tables[-1]
seen = lookup(contexts, totals, ngram_codes(validation_ids, n, V) // V)
groups = {"没见过": (0, 1), "见过一次": (1, 2), "见过 2 到 4 次": (2, 5), "至少 5 次": (5, n_train)}
for name, (low, high) in groups.items():
    here = (low <= seen) & (seen < high)
    each, whole = harm[here].mean(), harm[here].sum() / len(harm)
    share_of_places = here.double().mean()
    print(f"{name:9} {share_of_places:4.0%}：每个位置 {each:+.3f}，摊到全部位置 {whole:+.3f}")
if text.is_real:
    assert abs(n_gram[1] - unigram) < 1e-3, "1 阶就是前面的一元语法模型"
    assert n_gram[6] > n_gram[5], "对较长的上下文过于信任"

# %% [markdown] english="79091a01"
# 没见过的上下文没有坏处：规则会退回到短一点的上下文。按“每个位置”那个数看，只见过一次的上下文坏处最大；但多出来的损失有一半来自见过五次及以上的上下文：对它们，这条规则也过于信任。
#
# ## 更谨慎地统计
#
# 问题出在规则上，不在统计本身。**Kneser 和 Ney** 的规则（1995）经 Chen 和 Goodman（1999）改进后，在后两人的比较中成绩最好。
#
# **只出现一次，多半是碰巧。** 所以每个计数都要减去一份*折扣*，分给较短的上下文：出现一次的减 $D_1$，两次的减 $D_2$，三次及以上的减 $D_3$。这份文本里出现 $k$ 次的 n-gram，在同样长的新文本里会少出现 $D_k$ 次。它的估计式这里不加证明：设出现 $k$ 次的 n-gram 有 $n_k$ 个，则 $D_k = k - (k+1)\,Y\,n_{k+1}/n_k$，其中 $Y = n_1/(n_1 + 2n_2)$。


# %% tags=["export"]
def discounts(counts):
    """What is taken off a count of 0, of 1, of 2, and of 3 or more: (K,) int64 -> (4,)."""
    seen = [max(1, (counts == k).sum().item()) for k in (1, 2, 3, 4)]
    Y = seen[0] / (seen[0] + 2 * seen[1])
    D = [k - (k + 1) * Y * seen[k] / seen[k - 1] for k in (1, 2, 3)]
    least = 0.1  # in a tiny text a D may be negative, and something must be left over
    return torch.tensor([0, *(max(d, least) for d in D)], dtype=torch.float64)


# %%
for n in (2, 4, 6):
    _, seen, *_ = count_ngrams(ngram_codes(train_ids, n, V), V)
    taken = [round(d, 2) for d in discounts(seen).tolist()[1:]]
    print(f"{n} 阶：只出现一次的占 {(seen == 1).float().mean():.0%}；D = {taken}")

# %% [markdown] english="849e1d4d"
# **只有长上下文的信息不够时，才会用到短上下文。** 这时，一个字符在短上下文后面*出现过多少次*，不如它*出现在多少种不同的地方*重要。这份文本里 *h* 很常见，但多半在 *th*、*sh* 和 *wh* 里，在别处就不大可能出现。所以，除最高阶以外，各阶 n-gram 的计数都改成：它前面出现过几种不同的字符，就计为几次。在 *abracadabra* 里，*b* 只计一次，因为它前面只出现过 *a*。

# %%
different = ngram_codes(train_ids, 2, V).unique()  # each pair once, however frequent
places = torch.bincount(different % V, minlength=V)  # % V: the second of the pair
for letter in (c for c in "hue" if c in tokenizer.alphabet):
    (i,) = tokenizer.encode(letter)
    print(f"{letter}：占全部字符的 {share[i]:.1%}，出现在 {places[i]} 种字符之后")

# %% [markdown] english="1fdbfac7"
# 与前一条规则相比，只有那几张表不同：公式里的 $c$ 换成减去折扣后剩下的计数，$t$ 换成减下来的部分（`rest`）。下面这个单元格可以跳过。


# %% tags=["export"]
class KneserNey(WittenBell):
    """An n-gram model whose short contexts count places, and whose counts pay a discount.

    p(w|h) = (a(hw) - D) / a(h) + γ(h) p(w|h'); γ(h) is the share that the discounts D took. a
    counts n-grams of the full order, and for shorter ones the different characters before them.
    Kneser and Ney (1995), ICASSP; "modified" by Chen and Goodman (1999), Comput. Speech Lang. 13.
    """

    def count(self, ids, n):
        V = self.vocab_size
        codes = ngram_codes(ids, min(n + 1, self.order), V)
        if n < self.order:
            codes = codes.unique() % V**n  # without their first character
        grams, counts, contexts, totals, _ = count_ngrams(codes, V)
        taken = discounts(counts)[counts.clamp(max=3)]
        at = torch.searchsorted(contexts, grams // V)
        rest = torch.zeros(len(contexts), dtype=torch.float64).index_add_(0, at, taken)
        return grams, counts - taken, contexts, totals - rest, rest


# %% [markdown] english="58772447"
# > **先猜。** 6 阶还会输给 5 阶吗？更好的规则能让损失降低多少？

# %%
careful, halves = {}, {}
for n in orders[1:]:
    counter = KneserNey(train_ids, n, V)
    careful[n] = counter.loss(validation_ids)
    halves[n] = [counter.loss(half) for half in validation_ids.chunk(2)]
compared = pd.DataFrame({"Witten–Bell": n_gram, "Kneser–Ney": careful})
compared.index.name = "阶"
compared.round(3)

# %%
first, second = (min(halves, key=lambda n: halves[n][i]) for i in (0, 1))
print(f"前一半上最好的是 {first} 阶，后一半上最好的是 {second} 阶")
if text.is_real:
    assert first == second, "不论用哪一半来选，选出的都一样"
    assert min(careful, key=careful.get) == 7, "比前一种规则高两阶"
    assert round(careful[7], 3) == 1.517, "只靠统计同一份文本"

# %% [markdown] english="c18a2364"
# Kneser–Ney 的最低损失，比前一种规则的 5-gram（五元语法）低 0.15 奈特；同为 5 阶时，就已经低了 0.11。在 2 阶，用哪条规则差别不大：几乎所有的字符对都见过很多次。（用来报告成绩的文本，又用来选出 7 阶，成绩可能偏乐观；不过单用其中任何一半来选，选出的也是它。）
#
# **Kneser–Ney 的这个成绩，就是我们要超过的基线。** 两层的模型训练几分钟就能超过 5-gram（第 4 讲）；要超过这条基线，得训练更久，或者用更多层（第 5 讲）。有一件事，统计模型怎样都做不到，那就是*泛化*：看出两个上下文虽不相同，却很相似。这正是 Transformer 要做的事。

# %% [markdown] english="2599d76a"
# ## 统计模型写出的文本
#
# 会猜，就会写：按概率抽取下一个字符（即采样，sampling），接在后面，再抽下一个。`probabilities` 只会给一段现成的文本算概率，所以把每个候选字符都接在同一个上下文后面，连起来交给它。以 *abracadabra* 的字母为例，模型是 3 阶，上下文是 *ab* 时，交给它的是 *aba abb abc abd abr*。新接上的是每组的第三个字母（下标 2、5、8……）；整段的第一个字母没有概率，所以这些新字母的概率在下标 1、4、7……处：`[order - 2 :: order]`。


# %%
def next_probabilities(model, context):
    """p of each token after a context, which is cut to what the model sees: (V,)."""
    order, V = model.order, model.vocab_size
    seen = context[1 - order :]
    texts = torch.tensor([[*seen, w] for w in range(V)])  # (V, order), laid end to end:
    return model.probabilities(texts.flatten())[order - 2 :: order]


def write(model, prompt, n_new, seed=0):
    """Draw n_new characters, one by one, from an n-gram model of order 2 or more."""
    generator, out = torch.Generator().manual_seed(seed), list(prompt)
    for _ in range(n_new):
        p = next_probabilities(model, out)
        out.append(torch.multinomial(p, 1, generator=generator).item())
    return out


# %% [markdown] english="0e40b655"
# > **先猜。** 从几阶起，能认出单词？从几阶起，句子能读通？

# %%
best_order = min(careful, key=careful.get)
prompt = tokenizer.encode(text.text[: len("First Citizen:\n")])
for order in (2, 3, best_order):
    model = KneserNey(train_ids, order, V)
    assert abs(next_probabilities(model, prompt).sum() - 1) < 1e-9, "是一个概率分布"
    print(f"--- {order} 阶\n{tokenizer.decode(write(model, prompt, 120))}\n")

# %% [markdown] english="1df7250d"
# 字母连成音节，再连成单词，接着有了剧本的样子：人名，冒号，换行。但读起来没有意义。
#
# ## 再看打乱的行
#
# 同样的统计模型，换一种划分：

# %%
lines = text.text.split("\n")
random.Random(0).shuffle(lines)
shuffled = "\n".join(lines)
mixed_train, mixed_validation = split(torch.tensor(tokenizer.encode(shuffled)))
fair = careful[best_order]
flattered = KneserNey(mixed_train, best_order, V).loss(mixed_validation)
print(f"损失（奈特/字符）：按位置切 {fair:.3f}，打乱各行 {flattered:.3f}；")
print(f"困惑度：{math.exp(fair):.2f} 和 {math.exp(flattered):.2f}")

# %% [markdown] english="952a4a0c"
# 容易多了。是因为模型已经读过那些场景，还是因为最后十分之一本来就更难？换几个十分之一，整段留作验证试试：

# %%
tenth, by_tenth = len(ids) // 10, []
for i in (0, 3, 6):
    out = slice(i * tenth, (i + 1) * tenth)
    others = torch.cat([ids[: out.start], ids[out.stop :]])
    by_tenth.append(KneserNey(others, best_order, V).loss(ids[out]))
print("换成别的十分之一，整段留出：", ", ".join(f"{loss:.3f}" for loss in by_tenth))
if text.is_real:
    assert flattered < min(by_tenth), "打乱之后比任何一整段都容易"

# %% [markdown] english="c4ad70f3"
# 看来两个原因都有。换成别的十分之一，损失也更低，所以降下来的损失大半不是打乱造成的。（一个猜测：几个十分之一当中，只有最后这个的内容大多来自没见过的剧本。）但打乱之后还要更容易，大概是因为模型读过的正是那些场景。模型没有变好，是题目变容易了。所以我们按位置切，只切一刀；损失只和同一种划分上的损失相比。

# %% [markdown] english="ae956184"
# ## 损失记录
#
# 第 2 到 4 讲会把各自的损失加进这张表。（除 Kneser–Ney 外，表中的 n 元语法用的都是 Witten 和 Bell 的规则。）


# %% tags=["export"]
def baseline_losses(text):
    """What counting the first nine tenths of a text reaches on its last tenth.

    -> {"uniform": ln V, "unigram": …, "bigram": …, "5-gram": …, "Kneser–Ney": …}, in
    nats/character: the first four by Witten and Bell's rule, the last of order 7
    """
    tokenizer = CharTokenizer(text)
    train_ids, validation_ids = split(torch.tensor(tokenizer.encode(text)))
    V = tokenizer.vocab_size
    losses = {"uniform": math.log(V)}
    for order, name in ((1, "unigram"), (2, "bigram"), (5, "5-gram")):
        if V**order < 2**63:  # so that an n-gram can be one integer
            losses[name] = WittenBell(train_ids, order, V).loss(validation_ids)
    longest = max(order for order in range(1, 8) if V**order < 2**63)
    losses["Kneser–Ney"] = KneserNey(train_ids, longest, V).loss(validation_ids)
    return losses


# %%
losses = baseline_losses(text.text)
loss_log = pd.DataFrame({"奈特/字符": losses})
loss_log["困惑度"] = loss_log["奈特/字符"].map(math.exp)
loss_log.round(3)

# %%
figures.loss_bars(losses, title="统计能达到的损失，从最差到最好", note=text.note)

# %% [markdown] english="dd21c4ce"
# ## 本讲小结
#
# 你写出了分词器、划分数据和取批次的函数，还有由弱到强的各级基线：`course_utils.lessons.data` 就取自本讲。
#
# ## 思考
#
# **1.** 如果字符表只取自训练文本，而不是全文，分词器就必须能对未知字符报错。为什么？
#
# <details><summary>答案</summary>
#
# 因为只在最后十分之一里出现的字符没有 id。 </details>
#
# **2.** 一个模型在验证集上的损失是 0.02。你首先怀疑什么？
#
# <details><summary>答案</summary>
#
# 输入里泄漏了答案：目标没有挪位，或者模型能看到后面的字符。 </details>
#
# **3.** 为什么 6 阶用第一种规则输给 5 阶，用第二种规则却赢了？
#
# <details><summary>答案</summary>
#
# 第一种规则对长上下文过于信任。第二种给每个计数打折扣；退回短上下文时，看的是字符出现在多少种不同的地方。 </details>
#
# **4.** 一位朋友说，他的模型在“随机抽出的 10% 的行”上困惑度是 4.5。这比你的统计模型好吗？
#
# <details><summary>答案</summary>
#
# 并不更好。这样抽出的行，在原文中的前后几行就在训练文本里；照这样划分，你的统计模型的困惑度是 4.0。 </details>

# %% [markdown] english="e4e7edd8"
# ## 练习
#
# 把 `...` 或 `None` 换成你的答案，然后运行这个单元格。检查会显示*正确*或*还不对*；不对时，还会给出可能的原因。
#
# ### 练习 1.1 · 热身 · 5 分钟
#
# 已知模型给每个实际出现的字符的概率，返回它的困惑度。
#
# <details><summary>提示 1</summary>
#
# 先算单个词元的损失，再求均值，最后取指数。 </details>
#
# <details><summary>提示 2</summary>
#
# 概率都是 1/2，答案就是 2。 </details>


# %% tags=["exercise"]
def perplexity(probabilities):
    """probabilities: a list of floats in (0, 1] -> float."""
    ...


checks.check("1.1", perplexity)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def perplexity(probabilities):
    return math.exp(sum(-math.log(p) for p in probabilities) / len(probabilities))


checks.check("1.1", perplexity, quiet=True)

# %% [markdown] english="7a1f06f2"
# ### 练习 1.2 · 热身 · 5 分钟
#
# 按下面给出的大小手算：`get_batch` 可以从多少个不同的位置取窗口？一个批次里一共有多少个问题？
#
# <details><summary>提示 1</summary>
#
# 假设一共只有 5 个字符，窗口长度为 3，试试看。最后一个目标必须存在。 </details>
#
# <details><summary>提示 2</summary>
#
# 一个窗口需要 `T + 1` 个字符。每个位置有一个问题。 </details>

# %%
print(checks.sizes("1.2"))

# %% tags=["exercise"]
places, questions = None, None

checks.check("1.2", places and (places, questions))

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
size = checks.sizes("1.2")
places, questions = size["N"] - size["T"], size["B"] * size["T"]

checks.check("1.2", (places, questions), quiet=True)

# %% [markdown] english="085fa217"
# ### 练习 1.3 · 核心 · 15 分钟
#
# 要在*整份*数据上评估模型，每个位置都要预测一次，也只能预测一次：把 `ids` 切成互不重叠的窗口，每个至多 `T` 个词元，并配上它们的目标。最后一个可以短一些。
#
# <details><summary>提示 1</summary>
#
# `N` 个 id 里有 `N - 1` 个问题。如果前一个窗口用掉了 `T` 个，下一个窗口从哪里开始？ </details>
#
# <details><summary>提示 2</summary>
#
# 把 `ids[:-1]` 和 `ids[1:]` 在同样的地方切开（`torch.Tensor.split`）。 </details>


# %% tags=["exercise"]
def windows(ids, T):
    """ids: (N,) int64 -> a list of (tokens, targets), each of at most T."""
    ...


checks.check("1.3", windows)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def windows(ids, T):
    return list(zip(ids[:-1].split(T), ids[1:].split(T), strict=True))


checks.check("1.3", windows, quiet=True)

# %% [markdown] english="67a50c5f"
# ### 练习 1.4 · 核心 · 20 分钟
#
# 把二元语法模型写成一个函数，每格不再加 1，而是加 `extra`：在 `train` 上计数，返回在 `validation` 上的损失。`extra` 取多少最好？可以用哪段文本来选它？
#
# <details><summary>提示 1</summary>
#
# 一行对应*前一个*字符，加起来是 1。 </details>
#
# <details><summary>提示 2</summary>
#
# 先加 `extra`，再求一行的总和。 </details>
#
# <details><summary>后半题</summary>
#
# 用最后十分之一的一半来选，在另一半上报告损失。 </details>


# %% tags=["exercise"]
def bigram_loss(train, validation, vocab_size, extra):
    """train, validation: (N,) and (M,) int64 -> float, nats/character."""
    ...


checks.check("1.4", bigram_loss)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def bigram_loss(train, validation, vocab_size, extra):
    table = torch.full((vocab_size, vocab_size), float(extra), dtype=torch.float64)
    ones = torch.ones(len(train) - 1, dtype=torch.float64)
    table.index_put_((train[:-1], train[1:]), ones, accumulate=True)
    table /= table.sum(dim=1, keepdim=True)
    return -table[validation[:-1], validation[1:]].log().mean().item()


checks.check("1.4", bigram_loss, quiet=True)

# %% [markdown] english="412fd743"
# ### 练习 1.5 · 挑战 · 120 分钟
#
# 写出字节对编码（BPE）：重复 `n_merges` 次，每次找出出现次数最多的相邻一对（并列时取最小的一对），给它分配下一个新 id（第一个是 `vocab_size`），再从左到右把它出现的地方都换成新 id。
#
# 然后用 500 次合并切分莎士比亚的文本，用切出的片段建一个 3-gram 模型，再把*每个片段*的损失换算成*每个字符*的损失（奈特）。它比 5-gram 好吗？

# %% [markdown] english="2419463b"
# <details><summary>提示 1</summary>
#
# 一个函数数相邻对（`collections.Counter(zip(ids, ids[1:]))`），一个替换一对。 </details>
#
# <details><summary>提示 2</summary>
#
# 在 *aaa* 里，*aa* 只换一次，换过之后从它后面继续。 </details>
#
# <details><summary>后半题</summary>
#
# 合并规则从前十分之九得到，再照样用到最后十分之一上（纯 Python 要跑几分钟）。不论怎么切，文本都是同一份：每个片段的损失 × 片段数 ÷ 字符数。我们在这些片段上建的 Kneser–Ney 3-gram，损失是 1.641 奈特/字符：比 5-gram（1.669）好，比 7 阶差。 </details>


# %% tags=["exercise"]
def byte_pairs(ids, vocab_size, n_merges):
    """ids: a list of ints below vocab_size -> the list after n_merges merges."""
    ...


checks.check("1.5", byte_pairs)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
from collections import Counter
from itertools import pairwise


def byte_pairs(ids, vocab_size, n_merges):
    for new in range(vocab_size, vocab_size + n_merges):
        counts, merged, i = Counter(pairwise(ids)), [], 0
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        while i < len(ids):
            is_best = tuple(ids[i : i + 2]) == best
            merged.append(new if is_best else ids[i])
            i += 2 if is_best else 1
        ids = merged
    return ids


checks.check("1.5", byte_pairs, quiet=True)

# %% [markdown] english="7d6c026f"
# ### 练习 1.6 · 核心 · 20 分钟
#
# 一位同事写的 `get_batch` 能运行，形状和损失看起来都对，可是里面有个差一错误（off by one）。写一个测试来判断：`get_batch(ids, batch_size, context_length, seed)` 正确可靠，结果也由种子决定，就返回 True，否则返回 False。
#
# <details><summary>提示 1</summary>
#
# 如果 `ids = torch.arange(N)`，词元和目标之间必须满足什么关系？ </details>
#
# <details><summary>提示 2</summary>
#
# 从 `T + 3` 个 id 里取几百个窗口，它们应该从哪些位置开始？同一个种子再用一次呢？换一个种子呢？ </details>


# %% tags=["exercise"]
def can_be_trusted(get_batch):
    """get_batch(ids, batch_size, context_length, seed) -> True or False"""
    ...


checks.check("1.6", can_be_trusted)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def can_be_trusted(get_batch):
    T, ids = 5, torch.arange(8)  # three places to start from
    tokens, targets = get_batch(ids, 200, T, 0)
    return (
        torch.equal(tokens, tokens[:, :1] + torch.arange(T))
        and torch.equal(targets, tokens + 1)
        and set(tokens[:, 0].tolist()) == {0, 1, 2}
        and torch.equal(tokens, get_batch(ids, 200, T, 0)[0])
        and not torch.equal(tokens, get_batch(ids, 200, T, 1)[0])
    )


checks.check("1.6", can_be_trusted, quiet=True)

# %% [markdown] english="381dae2f"
# ## 自测
#
# **1.** 一个模型的损失降了 ln 2。它的困惑度……(a) 减少 2 · (b) 减半 · (c) 要看字符表。
#
# <details><summary>答案</summary>
#
# (b)。损失之差对应的是困惑度之*比*，与字符表无关。 </details>

# %% [markdown] english="55691156"
# **2.** 两个模型的字符表不同（65 个字符和 500 个片段）。可以比较的是……(a) 每个词元的损失 · (b) 每个词元的困惑度 · (c) 每个字符的损失。
#
# <details><summary>答案</summary>
#
# (c)。另外两个偏袒把文本切得更碎的一方：切得越碎，每个词元越好猜。 </details>

# %% [markdown] english="3ec762ac"
# **下一讲：** [2 · 注意力](02_attention.ipynb)，让每个位置自己学会该关注前面的哪些位置。
