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

# %% [markdown] english="1e7e0453"
# # 6 · 采样：让模型写出文字
#
# 训练好的模型，会为下一个位置上每个可能的字符给出一个概率。该取哪一个？每次都取概率最大的，模型就会陷入循环；完全按概率抽取，它又会时不时写出不通的东西。这一讲介绍两者之间的办法（温度、top-k、top-p），还有怎样写得更快，怎样分清一段文字是真的写得好，还是碰巧。

# %% [markdown] english="480bac48"
# **你将学会**：写出常用的采样规则 · 说明每条规则怎样改变分布 · 用键值缓存加快生成，并说明它的代价 · 以人写的文字为参照，衡量一段文字。
#
# **预备知识**：[第 3 讲](03_model.ipynb)、[二十行 PyTorch](../../book/zh/pytorch.md)；训练好的模型来自[第 5 讲](05_ablation.ipynb)，或由课程自带；**时间**：阅读约 50 分钟；运行代码需要一两分钟。

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

# %%
import functools
import itertools
import re
import time

import pandas as pd
from torch.nn import functional as F
from tqdm import tqdm

from course_utils import checks, corpus, figures, widgets
from course_utils.generation import quality
from course_utils.lessons.data import CharTokenizer, split
from course_utils.training import runs

# %% tags=["nbval-ignore-output"]
text = corpus.load()
print(text.describe())
tokenizer = CharTokenizer(text.text)
models = {arm: one.eval() for arm, one in runs.depth_models(text).items()}
model = models["6 layers"]
device, context = next(model.parameters()).device, model.config.context_length

# %% [markdown] english="d97eaca9"
# ## 先看整体
#
# 模型本身并不会写。它只是读一段文字，给出概率；还得从中选出一个字符，接到后面，再让它往下预测。生成文字就是这样一个循环，唯一可变的是怎么选。

# %%
prompt = text.fitting_prompt("ROMEO:\nI will ")
tokens = torch.tensor([tokenizer.encode(prompt)], device=device)


@torch.no_grad()
def write_with(choose, n=240):
    written = tokens
    for _ in range(n):
        logits = model(written[:, -context:])[:, -1]
        written = torch.cat([written, choose(logits)], dim=1)
    return tokenizer.decode(written[0])


# %% [markdown] english="208e6218"
# > **先猜。** 取概率最大的字符，或者按概率随机抽一个：哪一种写到三行以后就读不下去了？出了什么毛病？

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
likeliest = write_with(lambda logits: logits.argmax(-1, keepdim=True))
print("── 概率最大的\n" + likeliest)
drawn = write_with(lambda logits: torch.multinomial(logits.softmax(-1), 1))
print("\n── 按概率抽取的\n" + drawn)

# %% [markdown] english="9f9dbfb1"
# 总取概率最大的，虽然每一步都是最好的选择，整体却会陷入循环；另一种会把开头正确的词拼错。下面的办法，都是在这两者之间折中。
#
# ## 拼错的词是怎样产生的
#
# > **先猜。** 在这段提示文本之后，有多少个字符算得上合理的候选？

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    logits, inside = model(tokens)[0, [-1, -3]].cpu()  # after the space; after "wil"
probabilities = logits.softmax(dim=-1)
before = pd.Series(probabilities, index=list(tokenizer.alphabet))
rare = before[before < 0.01]
print(f"概率最大的五个字符，占总概率的 {before.nlargest(5).sum():.0%}；", end=" ")
print(f"{len(rare)} 个字符各不到 1%，合计 {rare.sum():.1%}")
before.nlargest(12).round(4).to_frame("概率").T

# %% [markdown] english="90f2bf99"
# 空格之后，很多字符都合理，不论概率在 1% 以上，还是更低（想想 *keep*、*obey*）。在词的中间，合理的字符很少：换成任何别的字符，就成了训练文本里没有的词。


# %%
def words(text):
    """At most 30 letters each, for a text may have no blanks."""
    return re.findall(r"\w[\w']{,29}", text.lower())


training_text, held_out = split(text.text)
held_out = held_out[: 2**26 // tokenizer.vocab_size]  # tables of (N, V): 256 MB each at most
vocabulary = set(words(training_text))
beginnings = {word[:n] for word in vocabulary for n in range(1, len(word) + 1)}
is_letter = re.compile(r"[\w']").match


@functools.cache
def breaks(begun):
    """The characters after which a begun word is one that nobody knows: (V,) bool."""
    if begun not in beginnings:  # between words, or broken already
        return torch.zeros(tokenizer.vocab_size, dtype=torch.bool)
    goes_on = [begun + c.lower() in beginnings for c in tokenizer.alphabet]
    ends = [not is_letter(c) and begun in vocabulary for c in tokenizer.alphabet]
    return ~(torch.tensor(goes_on) | torch.tensor(ends))


# %% [markdown] english="12721619"
# 让每个模型把整个验证集读一遍（约需十五秒）。在每个位置上，它给“会使词拼错的字符”的概率之和，就是出错的风险；一个词完全拼对的概率，是各个位置上（1 − 风险）的乘积（代码里把对数相加）。


# %%
@torch.no_grad()
def read(model, ids):
    """What is expected after each token of a text: (N,) -> (N, V) probabilities."""
    windows = ids.to(device).split(context)
    return torch.cat([model(window[None])[0].softmax(-1).cpu() for window in windows])


def begun_words(text):
    """After each character, the word that is being written; "" between words."""
    begun, found = "", []
    for c in text:
        goes_on = is_letter(c) and len(begun) < 30
        begun = (begun + c.lower()).lstrip("'") if goes_on else ""
        found.append(begun)
    return found


# %% tags=["nbval-ignore-output"]
held_out_ids = torch.tensor(tokenizer.encode(held_out))
bar = tqdm(models.items(), "阅读", leave=False)
expected = {arm: read(one, held_out_ids) for arm, one in bar}
begun = begun_words(held_out)
place = torch.tensor([len(word) for word in begun])
in_word, number = place > 0, (place == 1).cumsum(0)  # which word of the text
breaking = torch.stack([breaks(word) for word in begun])


# %%
def slips(p):
    """The mass that breaks words, by letters written; the share of words broken."""
    slip = (p * breaking).sum(-1).double()
    whole = torch.zeros(number[-1] + 1).double()
    whole.index_add_(0, number[in_word], (-slip[in_word]).log1p())
    by_place = [slip[place == n].mean().item() for n in range(1, 7)]
    return by_place, 1 - whole[1:].exp().mean().item()


# %% [markdown] english="141e1a64"
# > **先猜。** 写到词的第几个字母之后，出错的风险最大？完全拼对的词占多大比例？

# %% tags=["nbval-ignore-output"]
for arm, p in expected.items():
    by_place, share = slips(p)
    risks = ", ".join(f"{x:.1%}" for x in by_place)
    print(f"{arm}：写完 1 到 6 个字母之后，出错的风险 {risks}；拼错的词占 {share:.0%}")

# %% [markdown] english="43724f5b"
# 写完一两个字母时，几乎没有风险，因为接什么几乎都说得通；写完三个之后，风险是 8%，写完六个之后是 18%（6 层的模型）。大多数词很短，所以只有约五分之一的词会拼错。
#
# ## 随机抽取：一场赛跑
#
# 要按概率抽取，可以让词元赛跑。每个词元的跑道长度是随机的，服从*指数分布*（短的多，长的少）；它的速度就是它的概率 $p_i$。速度是别人的两倍，得第一的机会也是别人的两倍：词元 $i$ 获胜的概率是 $p_i / \sum_j p_j$（Gumbel-max 技巧；Maddison 等，2014），这里不证明，直接使用。用时（长度 / 速度）最短，就是速度 / 长度最大。`torch.multinomial` 也是这样做的。


# %% tags=["export"]
def draw(logits, generator=None):
    """One token a row, by the probabilities of its logits: (B, V) -> (B, 1).

    A race: each token runs a random length at the speed of its probability, and the
    first to arrive is drawn.
    """
    speeds = logits.softmax(dim=-1)
    lengths = torch.empty_like(speeds).exponential_(generator=generator)
    return (speeds / lengths).argmax(dim=-1, keepdim=True)


# %%
rows, luck = logits.expand(1000, -1), torch.Generator()
ours = draw(rows, luck.manual_seed(0))
theirs = torch.multinomial(rows.softmax(-1), 1, generator=luck.manual_seed(0))
assert torch.equal(ours, theirs), "随机数相同，赛跑的结果就相同"

# %% [markdown] english="b5ad308f"
# ## 温度
#
# 在做 softmax 之前，先把 logits 除以一个数 $\tau$，分布就会变窄或变宽（Ackley 等，1985）：
#
# $$p_i \propto e^{z_i / \tau}$$
#
# 温度为 1 时，就是模型自己的分布。温度趋近 0 时，概率全部集中到最大的那个字符上，这就是贪心（greedy）；温度趋近无穷时，所有字符的概率都相等。一个分布有多宽，用它的熵 $-\sum p_i \ln p_i$ 来衡量，单位是奈特。
#
# > **先猜。** 熵随温度怎样变化？两条曲线：一条在一个词结束之后，能接的字符很多；一条在词的中间。

# %%
temperatures = torch.linspace(0.05, 3.0, 60)
entropies = {}
for seen, z in {prompt: logits, prompt[:-2]: inside}.items():
    each = torch.distributions.Categorical(logits=z / temperatures[:, None]).entropy()
    assert (each.diff() > -1e-5).all(), "温度升高，分布不会变窄"
    entropies[repr(seen[-5:])] = each

# %% tags=["nbval-ignore-output"]
labels = ("temperature", "熵（奈特）")
all_equal = {"全部相等": math.log(tokenizer.vocab_size)}
title = "不同的前文之后，下一个字符的熵"
look = {"baselines": all_equal, "title": title, "note": text.note}
figures.lines(temperatures, entropies, *labels, **look)

# %% [markdown] english="8dd82c21"
# 在模型有把握的位置，概率本来就集中，温度低于 1 也起不了作用；在别的位置，概率会集中到更少的候选上。温度高于 1 时，连有把握的位置也变得随机，词就拼不对了。所有位置共用一个温度，这个办法太粗糙。
#
# ## Top-k 和 top-p
#
# 温度改变每个候选的概率，但一个也不去掉。**Top-k**（Fan 等，2018）保留概率最大的 $k$ 个。**Top-p**（Holtzman 等，2020）保留总概率达到 $p$ 的最小集合：模型有把握时留下的少，没把握时留下的多。合起来用时：先温度，再 top-k，再对剩下的做 top-p。去掉的词元，logit 设为 $-\infty$，因为只有 $e^{-\infty}$ 才等于 0。


# %% tags=["export"]
def check_sampling(temperature=1.0, top_k=None, top_p=None, max_new_tokens=0):
    """ValueError, with what is allowed, for a setting that means nothing."""
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be at least 0, not {max_new_tokens!r}")
    if not 0 <= temperature < math.inf:
        allowed = "a number of at least 0 (0 is greedy)"
        raise ValueError(f"temperature must be {allowed}, not {temperature!r}")
    if top_k is not None and (top_k < 1 or top_k % 1):
        raise ValueError(f"top_k must be a whole number of at least 1, not {top_k!r}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], not {top_p!r}")


# %% tags=["export"]
def filter_logits(logits, temperature=1.0, top_k=None, top_p=None):
    """Temperature, then top-k, then top-p over what is left; dropped tokens become -inf.

    logits: (..., V) float -> (..., V). temperature 0 keeps the best token alone. Those that
    tie with the k-th stay. top_p keeps the smallest set whose mass reaches p, at least one
    token (Holtzman et al., 2020). None switches a filter off.
    """
    check_sampling(temperature, top_k, top_p)
    if temperature == 0:
        others = torch.ones_like(logits, dtype=torch.bool)
        others = others.scatter(-1, logits.argmax(-1, keepdim=True), False)  # False there
        return logits.masked_fill(others, -math.inf)
    if temperature != 1:
        tiny = torch.finfo(logits.dtype).tiny  # below it the best has all
        temperature = min(max(temperature, tiny), 1 / tiny)  # above, all are alike
        best = logits.amax(dim=-1, keepdim=True)
        logits = (logits - best) / temperature  # at most 0, which never overflows
    if top_k is not None:
        kth = logits.topk(min(int(top_k), logits.shape[-1])).values[..., -1:]
        logits = logits.masked_fill(logits < kth, -math.inf)
    if top_p is not None and top_p < 1:
        rising, order = logits.sort(dim=-1)
        tail = rising.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p  # not needed for p
        tail[..., -1] = False  # the best token stays, however small p is
        # scatter puts each answer back at its token's own place
        logits = logits.masked_fill(tail.scatter(-1, order, tail), -math.inf)
    return logits


# %% [markdown] english="bb928b33"
# 用能心算的数来检验：

# %%
easy = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()
rules = [{"temperature": 0}, {"temperature": 0.5}, {"top_k": 2}]
rules += [{"top_p": 0.7}, {"top_k": 3, "top_p": 0.8}]
for settings in rules:
    shares = filter_logits(easy, **settings).softmax(-1).tolist()
    print(settings, [round(p, 2) for p in shares])

# %%
k_then_p = filter_logits(filter_logits(easy, top_k=3), top_p=0.8)
p_then_k = filter_logits(filter_logits(easy, top_p=0.8), top_k=3)
kept = [(z > -math.inf).sum().item() for z in (k_then_p, p_then_k)]
assert kept == [2, 3], "顺序也是规则的一部分"

# %% [markdown] english="888527b8"
# top-p 放在最后，所以 $p$ 指的是在“还能抽到的字符”中所占的比例：最后一行里，top-k 留下的三个，重新归一化之后是 0.56、0.28、0.17，其中前两个就达到 0.8。如果顺序反过来，会留下三个。
#
# 现在故意写错：用 $10^{-10}$ 代替 $-\infty$。作为 logit，这个数几乎就是 0；罕见字符的 logits 却远低于它。
#
# > **先猜。** 只留下概率最大的五个时，原来每个都不到 1% 的那些字符会怎样？

# %% tags=["nbval-ignore-output"]
five = filter_logits(logits, top_k=5)
broken = five.masked_fill(five == -math.inf, 1e-10).softmax(-1)
unlikely = torch.tensor((before < 0.01).to_numpy())
print(f"罕见的字符：在模型原来的分布里占 {rare.sum():.1%}，", end=" ")
print(f"经过写错的过滤器占 {broken[unlikely].sum():.1%}，", end=" ")
print(f"经过我们的过滤器占 {five.softmax(-1)[unlikely].sum():.0%}")

# %% [markdown] english="46806887"
# 本该去掉的字符，概率反而升高了，而且程序不报错，只是文字变得奇怪。现在换上正确的规则：

# %% tags=["nbval-ignore-output"]
rules = [{"temperature": 0.5}, {"temperature": 1.5}, {"top_k": 3}, {"top_p": 0.8}]
columns = {"调整前": before}
for settings in rules:
    name = ", ".join(f"{name} {value}" for name, value in settings.items())
    columns[name] = filter_logits(logits, **settings).softmax(-1)
table, title = pd.DataFrame(columns), f"{prompt!r} 之后是什么"
figures.next_character(table, title=title, note=text.note)

# %% [markdown] english="ad48f487"
# 十行代码就能做出一个交互演示：一个以各项设置为参数的函数，再给每项设置配一个滑块。


# %%
def play(temperature, top_k, top_p):
    after = filter_logits(logits, temperature, top_k, top_p).softmax(-1)
    table = pd.DataFrame({"调整前": before, "调整后": after})
    return figures.next_character(table, title=title, note=text.note)


# %% tags=["nbval-ignore-output"]
V = tokenizer.vocab_size
degrees, mass = (0.0, 2.0, 0.05, 0.8), (0.05, 1.0, 0.05, 0.9)  # low, high, step, start
widgets.sliders(play, temperature=degrees, top_k=(1, V, 1, V), top_p=mass)

# %% [markdown] english="11ec76b6"
# ## 模型在哪些字符上猜不准
#
# 来看一行文字，三个模型都没见过它。对一个字符来说，*单个词元的损失*就是它的 $-\ln p$；在一段文字上取平均，就是前几讲一直在用的损失。
#
# > **先猜。** 这一行里，哪里会亮（损失大），哪里会暗？

# %%
longest = min(44, context - 4)
lines = (x for x in held_out[1000:4000].splitlines()[1:] if len(x) <= longest)
line = max(lines, key=len, default="") or held_out[1 : 1 + longest]
stop = held_out.index(line) + len(line)
at = slice(stop - len(line), stop)
guesses = {arm: p[at.start - 1 : at.stop - 1] for arm, p in expected.items()}
losses = {arm: -p[range(len(line)), held_out_ids[at]].log() for arm, p in guesses.items()}

# %% tags=["nbval-ignore-output"]
rows = [one.config.n_layers for one in models.values()]
labels = ("层数", "这一行的下一个字符", "单个词元的损失（奈特）")
look = {"labels": labels, "title": "每个字符的损失", "note": text.note}
figures.heatmaps(torch.stack(list(losses.values())), rows, list(line), **look)

# %% tags=["nbval-ignore-output"]
widgets.inside(models, tokenizer, line)

# %% [markdown] english="e2794a72"
# 词的开头大多是亮的，其余大多是暗的。（在上面的组件里选一个模型，把鼠标移到一个字符上：每一层在那里预测的是什么？）再对整个验证集，按字符在词中的位置来统计：

# %%
asked = in_word[:-1] | in_word[1:]  # how a word begins, goes on, ends
by_place, places = {}, range(9)
for arm, p in expected.items():
    each = -p[:-1].gather(1, held_out_ids[1:, None]).flatten().log()
    by_place[arm] = [each[asked & (place[:-1] == n)].mean() for n in places]

# %% tags=["nbval-ignore-output"]
gain = [few - many for few, many in zip(by_place["2 layers"], by_place["6 layers"], strict=True)]
print(f"6 层比 2 层在首字母上低 {gain[0]:.2f} 奈特，在六个字母之后低 {gain[6]:.2f} 奈特")
labels = ("词中排在它之前的字母数", "单个词元的损失（奈特）")
title = "字符的损失，按它在词中的位置"
figures.lines(places, by_place, *labels, low=0, title=title, note=text.note)

# %% [markdown] english="e7ea7eb6"
# 首字母的损失几乎是后面任何一个字母的两倍，因为写哪个词，就是在首字母处决定的。在这三个模型里（各只有一个种子），增加层数，首字母的损失降低很少，长词内部的降低得更多。top-p 留下多少个字符，也取决于这些位置，个数写在每个字符下面（6 层的模型；9 表示九个或更多）：

# %% tags=["nbval-ignore-output"]
print(f"{'':12}{line}")
for p in (0.5, 0.9):
    kept = filter_logits(guesses["6 layers"].log(), top_p=p) > -math.inf
    kept = kept.sum(-1).tolist()
    digits = "".join(str(min(9, n)) for n in kept)
    print(f"{f'top-p {p}':12}{digits}   从 {min(kept)} 到 {max(kept)}")

# %% [markdown] english="0878e13e"
# 固定的 $k$ 做不到这一点：如果大到够词的开头用，在词的中间就会放进不合理的字符。
#
# ## 加快生成
#
# 前面的简单循环，每写一个字符都要把整段文字重新读一遍，其实因为有掩码，前面各个位置的结果并没有变。**键值缓存**（key-value cache）保存每一层的键和值，这样只有最新的字符需要经过模型。

# %%
figures.kv_cache(7, title="缓存里有什么，新算的是什么")


# %% tags=["export"]
class KVCache:
    """One layer's keys and values for the tokens read so far, each computed once."""

    def __init__(self, context_length):
        self.context_length, self.length = context_length, 0

    def extend(self, k, v):
        """Append k, v: (B, H, T, D) and return all so far: 2 × (B, H, length, D)."""
        if self.length == 0:
            B, H, _, D = k.shape
            self.k, self.v = (k.new_empty(B, H, self.context_length, D) for _ in range(2))
        start, self.length = self.length, self.length + k.shape[-2]
        self.k[:, :, start : self.length] = k
        self.v[:, :, start : self.length] = v
        return self.k[:, :, : self.length], self.v[:, :, : self.length]


# %%
caches = [KVCache(context) for _ in range(model.config.n_layers)]
with torch.no_grad():
    one_by_one = [model(tokens[:, [i]], caches) for i in range(tokens.shape[1])]
    at_once = model(tokens)
assert torch.allclose(torch.cat(one_by_one, dim=1), at_once, atol=1e-3), "前面的结果原样保留"

# %% [markdown] english="80102b42"
# 拿到缓存后，第 3 讲的模型在每一层先调用 `k, v = cache.extend(k, v)`，再调用 `causal_attention(q, k, v)`，这时只传入最新的查询。这些查询的位置从 `cache.length` 接着往后数。
#
# 文字超出了上下文，怎么办？如果窗口每次滑一格，缓存里的键就与重新读一遍得到的不同了，因为从第二层起，键是由前面的字符算出来的，而那些字符有的已经移出窗口。Transformer-XL（Dai 等，2019）有意保留这些键；我们要求缓存不改变任何结果，所以窗口每次向前跳半个上下文（`-(-x // jump) * jump` 把 x 向上取整到跳跃距离的整数倍）。


# %% tags=["export"]
def window_start(length, context_length):
    """Where the model begins to read a text of `length` tokens.

    0 while the text fits; then the window moves in jumps of half a context, so that a cache
    lives that long. A long text is read with at least half a context, at most a whole one.
    """
    jump = max(1, context_length // 2)
    return max(0, -(-(length - context_length) // jump) * jump)


# %% tags=["nbval-ignore-output"]
lengths = range(1, 4 * context)
seen = {
    "跳着移动，有缓存": [length - window_start(length, context) for length in lengths],
    "逐格滑动，没有缓存": [min(length, context) for length in lengths],
}
labels = ("文字的长度（字符）", "模型读到的（字符）")
title = f"{context} 个字符的上下文能看到多少"
figures.lines(lengths, seen, *labels, title=title, note=text.note)

# %% [markdown] english="6b6873ed"
# 代价就是图中的锯齿：窗口刚跳完时，模型看到的上文只有最多时的一半。在[第 4 讲](04_train.ipynb)的逐位置损失里（两层的模型），几十个字符以外的上文带来的改进小得测不出来。下面还是前面那个循环，只是窗口每跳一次，就换上新的缓存：


# %% tags=["export"]
@torch.no_grad()
def stream(model, tokens, max_new_tokens, temperature=1.0, top_k=None, top_p=None, generator=None):
    """Yield one new token (B, 1) after the other; each continues tokens (B, T).

    The model is used as it is: call model.eval() first, or dropout garbles the text.
    """
    check_sampling(temperature, top_k, top_p, max_new_tokens)
    if tokens.ndim != 2 or tokens.shape[1] == 0:
        shape = "tokens of shape (B, T), T >= 1"
        raise ValueError(f"generation needs a prompt of at least one character: {shape}")
    context, start = model.config.context_length, None
    for _ in range(max_new_tokens):
        begin = window_start(tokens.shape[1], context)
        if begin != start:  # a new window is read from its beginning
            start = read_to = begin
            cache = [KVCache(context) for _ in range(model.config.n_layers)]
        logits = model(tokens[:, read_to:], cache)[:, -1]
        read_to = tokens.shape[1]
        token = draw(filter_logits(logits, temperature, top_k, top_p), generator)
        tokens = torch.cat([tokens, token], dim=1)
        yield token


# %% tags=["export"]
def generate(
    model, tokens, max_new_tokens, temperature=1.0, top_k=None, top_p=None, generator=None
):
    """Continue each row by max_new_tokens, dropout off: tokens (B, T) int64 -> (B, T + N).

    Sampling means what filter_logits says. A text longer than the context is read from
    window_start on.
    """
    was_training = model.training
    model.eval()
    try:
        settings = (temperature, top_k, top_p, generator)
        new = list(stream(model, tokens, max_new_tokens, *settings))
    finally:
        model.train(was_training)
    return torch.cat([tokens, *new], dim=1)


# %% [markdown] english="644f00c0"
# 下面把用缓存的写法与不用缓存的写法作比较：后者每写一个字符，都把整个窗口重新读一遍。
#
# > **先猜。** 用了缓存，速度是原来的几倍？


# %%
@torch.no_grad()
def generate_plainly(model, tokens, max_new_tokens, generator):
    for _ in range(max_new_tokens):
        seen = tokens[:, window_start(tokens.shape[1], context) :]
        tokens = torch.cat([tokens, draw(model(seen)[:, -1], generator)], dim=1)
    return tokens


# %% tags=["nbval-ignore-output"]
ways, took, texts = {"plain": generate_plainly, "cached": generate}, {}, {}
for name, method in 3 * list(ways.items()):
    begin, generator = time.perf_counter(), torch.Generator(device).manual_seed(0)
    texts[name] = method(model, tokens, 2 * context, generator=generator)
    took.setdefault(name, []).append(time.perf_counter() - begin)
assert torch.equal(texts["plain"], texts["cached"]), "缓存只改变时间"
times = min(took["plain"]) / min(took["cached"])
print(f"{2 * context} 个字符，三次中取最快的：速度是不用缓存时的 {times:.1f} 倍")

# %% [markdown] english="ac47c41e"
# > **先猜。** 写一个字符的时间，随前面文字的长度怎样变化？有缓存和没有缓存，哪条线会上升，哪条不变？


# %%
@torch.no_grad()
def milliseconds(length, keep):
    seen, cache = torch.zeros(1, length, dtype=torch.int64, device=device), None
    if keep:
        cache = [KVCache(context) for _ in range(model.config.n_layers)]
        model(seen[:, :-1], cache)
    best = math.inf
    for _ in range(10):
        begin = time.perf_counter()
        model(seen[:, -1:] if keep else seen, cache).cpu()
        best = min(best, 1000 * (time.perf_counter() - begin))
        for layer in cache or []:
            layer.length -= 1  # as if it had not been read
    return best


# %%
lengths = range(context // 8, context + 1, context // 8)
ways = {"没有缓存": False, "有缓存": True}
several = [  # a busy moment of the machine spoils one of five
    [[milliseconds(n, keep) for n in lengths] for keep in ways.values()] for _ in range(5)
]
each = dict(zip(ways, torch.tensor(several).amin(dim=0).tolist(), strict=True))

# %% tags=["nbval-ignore-output"]
labels = ("文字的长度（字符）", "再写一个字符（毫秒）")
title = "缓存省下多少时间"
dear = each["没有缓存"][0] / each["有缓存"][0]
print(f"一次读 {lengths[0]} 个字符，用时是读一个的 {dear:.1f} 倍")
figures.lines(lengths, each, *labels, low=0, title=title, note=text.note)

# %% [markdown] english="964feae9"
# 没有缓存，时间随文字变长而增加；有缓存，时间不变，但远高于零：任何一次前向传播都有这部分开销（我们猜，是花在启动许多小运算上）。
#
# 缓存要占多少内存？每一层、每个字符、每段文字，都要存一个键和一个值，各有 `d_model` 个数：

# %%
c, cache = model.config, [KVCache(context) for _ in range(model.config.n_layers)]
with torch.no_grad():
    model(tokens, cache)
held = sum(layer.k.nbytes + layer.v.nbytes for layer in cache)
formula = 2 * c.n_layers * c.context_length * c.d_model * 4
assert held == formula, "键和值，每个数 4 字节"

# %% tags=["nbval-ignore-output"]
weights = sum(w.nbytes for w in model.parameters())
for n in (1, 64):
    print(f"文字段数：{n}；缓存：{n * held / 1e6:.1f} MB；权重：{weights / 1e6:.1f} MB")

# %% [markdown] english="9d08accc"
# 只写一段文字时，缓存很小；同时写很多段，或者上下文很长时，占内存最多的就是它。所以大模型让几个头共用键和值（多查询注意力，multi-query attention，Shazeer，2019；分组查询，grouped-query，Ainslie 等，2023），服务器则按页分配这部分内存（PagedAttention，Kwon 等，2023）。
#
# ## 读一读
#
# 同一个模型，同一段提示文本，同一个种子，四种规则。请出声读一读。

# %% tags=["nbval-ignore-output"]
judge = quality.Judge(text)
rules = [{"temperature": 0.0}, {"temperature": 0.7}]
rules += [{"temperature": 1.0, "top_p": 0.9}, {"temperature": 1.5}]
for settings in rules:
    written = judge.sample(model, prompt, 160, seed=1, **settings)
    print(f"── {settings}\n{prompt}{written}\n")

# %% [markdown] english="a50e6e11"
# 贪心又卡住了（卡住的地方与前面的不同，因为这里的生成代码截取窗口的方式不一样）。在大模型里，循环会自我强化：一个短语每读一遍，再次出现的概率就更高（Holtzman 等，2020）。我们的模型也这样吗？让它反复读同一小段验证文本；作为对照，再让它每次读新的一段。
#
# > **先猜。** 第一遍、第二遍、第六遍，一个字符的概率各是多少？

# %%
rounds = 6
n = min(20, context // rounds - 1)
once = held_out_ids.unfold(0, n + 1, n + 1)[:200].to(device)  # for a text without lines
if pieces := [line[:n] + "\n" for line in held_out.split("\n")[1:] if len(line) >= n]:
    once = torch.tensor([tokenizer.encode(piece) for piece in pieces[:200]], device=device)
others = torch.cat([once.roll(i, dims=0) for i in range(rounds)], dim=1)
read_in = {"重读同一段": once.repeat(1, rounds), "每次换一段": others}


# %%
@torch.no_grad()
def losses_in(rows):
    """The token loss of each token but the first of each row: (B, T) -> (B, T - 1)."""
    logits = model(rows)[:, :-1].mT  # cross_entropy wants (B, V, T)
    return F.cross_entropy(logits, rows[:, 1:], reduction="none").cpu()


def middle_half(values):
    """Of many texts, (N, …): the first quartile, the median, the third, each (…)."""
    return values.quantile(torch.tensor([0.25, 0.5, 0.75]), dim=0)


# %% tags=["nbval-ignore-output"]
curves, bands = {}, {}
for name, rows in read_in.items():
    # pad: a 0 in front for the first token, which nobody predicts
    losses_of_all = F.pad(losses_in(rows), (1, 0)).view(len(rows), rounds, n + 1)
    certain = losses_of_all[..., 1:].mean(dim=-1).neg().exp()
    low, curves[name], high = middle_half(certain)
    bands[name] = low, high
labels = ("第几遍", "一个字符的概率")
look = {"bands": bands, "low": 0, "note": text.note}
title = f"重读 {n} 个字符：{len(once)} 段文字的中位数和中间 50%"
figures.lines(range(1, rounds + 1), curves, *labels, **look, title=title)

# %% [markdown] english="b29d6782"
# 两条线几乎重合：前面有一份一模一样的，对这个模型没有帮助。它没有学会找到那一份，再照着往下写（*归纳头*，induction head，会这样做；Olsson 等，2022）。那么，循环是怎么来的？贪心从同样的字符出发，总是同样地接下去。如果下一个字符只由最后几个字符决定，那么这几个字符一旦再次出现，后面的一切也就跟着重来。到底由几个字符决定？
#
# 那么，出错呢？模型训练时读的都是真实的文字；自己出错之后，它读到的是从没见过的东西（**曝光偏差**，exposure bias，Ranzato 等，2016）。影响会持续多远？把每个窗口正中的字符换成错的，试试看。

# %% tags=["nbval-ignore-output"]
size = min(context, len(held_out_ids))
rows = held_out_ids.to(device).unfold(0, size, size)[:400]
with torch.no_grad():
    whole = model(rows)[:, -1].argmax(-1)
    for n in (2, 4, 8, 16, 32):
        same = (model(rows[:, -n:])[:, -1].argmax(-1) == whole).float().mean()
        print(f"只看最后 {n:2} 个字符，{same:.0%} 的时候选得一样")

# %% tags=["nbval-ignore-output"]
spoilt, at = rows.clone(), size // 2
spoilt[:, at] = rows[:, at].roll(1)  # another window's
harm = (losses_in(spoilt) - losses_in(rows)).mean(dim=0)[at:]
for first, last in ((1, 1), (2, 5), (6, 10), (11, 20), (21, 40)):
    which = f"{first} 到 {last}" if first < last else f"{first}"
    print(f"之后第 {which:>8} 个：每个 {harm[first - 1 : last].mean():+.3f} 奈特")

# %% [markdown] english="b908280b"
# 在人写的文字上，十次里有九次，最后十六个字符就足以决定下一个选哪个。在贪心写出的文字上，模型每一步都更有把握（见下文），所以我们猜，那里更常出现光靠这些字符就能决定的情形，多到足以形成循环。一次出错会影响后面几个字符的预测，之后影响就消失了，至少后文是人写的时候如此。（这两点说的都只是这么小的模型。）
#
# 人也这样贪心吗？从模型的角度，看看三段文字：

# %%
shown = {"人写的": held_out[-size:]}
for name, degree in {"随机抽取的": 1.0, "贪心写出的": 0.0}.items():
    shown[name] = judge.sample(model, prompt, size, seed=1, temperature=degree)
rows = torch.tensor([tokenizer.encode(one) for one in shown.values()], device=device)
each = losses_in(rows)[:, -size // 2 :]

# %% tags=["nbval-ignore-output"]
for name, row in zip(shown, each, strict=True):
    print(f"{name}：平均每个字符 {row.mean():.2f} 奈特，最多 {row.max():.1f}")
same = (expected["6 layers"][:-1].argmax(-1) == held_out_ids[1:]).double().mean()
print(f"人写的文字，在 {same:.0%} 的位置上取了概率最大的字符")
look = {"labels": ("", "字符", "单个词元的损失（奈特）"), "note": text.note}
figures.heatmaps(each, list(shown), title="三段文字里，每个字符有多难猜", **look)

# %% [markdown] english="793bf99e"
# 人写的文字时亮时暗，随机抽取的文字也是；贪心写出的文字却从来不亮。概率最大的文字，并不是典型的文字。下面定义三个指标，每个只要三行代码：


# %%
def repetition(text, n=20):
    """The share of n-character stretches that the same text has had before."""
    stretches = [text[i : i + n] for i in range(len(text) - n + 1)]
    return 1 - len(set(stretches)) / len(stretches) if stretches else 0.0


def known_words(text):
    """The share of words that the training text has; first and last may be cut."""
    inner = words(text)[1:-1]
    return sum(word in vocabulary for word in inner) / max(1, len(inner))


def distinct_2(text):
    """Different pairs of words as a share of all pairs (Li et al., 2016)."""
    pairs = list(itertools.pairwise(words(text)))
    return len(set(pairs)) / max(1, len(pairs))


# %%
theirs = judge.measure(held_out[:2000])
for measure in (repetition, known_words, distinct_2):
    ours = measure(held_out[:2000])
    assert ours == theirs[measure.__name__] or not judge.has_words, "应与课程软件包的结果相同"

# %% [markdown] english="418d6c75"
# 训练文本里没有的词，也就是不在已知词里的，叫作*编造*的词。每个温度写八段（温度为 0 时，八段都一样；约需十五秒），再取四十段人写的文字：
#
# > **先猜。** 重复率和已知词的比例怎样随温度变化？人写的文字在什么水平？

# %% tags=["nbval-ignore-output"]
degrees, length = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4), 4 * context
written = {}
for degree in tqdm(degrees, "温度", leave=False):
    generator = torch.Generator(device).manual_seed(0)
    rows = generate(model, tokens.expand(8, -1), length, degree, generator=generator)
    written[degree] = [tokenizer.decode(row[tokens.shape[1] :]) for row in rows]
written["人写的"] = quality.stretches(held_out, length, pieces=40)

# %%
measured, flat = {}, (3, len(degrees))
for name, measure in {"repetition": repetition, "known words": known_words}.items():
    each = {
        key: middle_half(torch.tensor([measure(one) for one in texts]))
        for key, texts in written.items()
    }
    measured[name] = torch.stack([each[degree] for degree in degrees], dim=1)
    measured[f"human, {name}"] = each["人写的"][:, None].expand(flat)

# %% tags=["nbval-ignore-output"]
curves = {name: middle for name, (_, middle, _) in measured.items()}
bands = {name: (low, high) for name, (low, _, high) in measured.items()}
look = {"bands": bands, "title": "两种出错的方式（中位数和中间 50%）"}
figures.lines(degrees, curves, "temperature", "比例", **look, note=text.note)

# %% [markdown] english="d80f611f"
# 温度接近 0 时，模型反复写同样的话；温度高时，它会编造词；介于两者之间时，两种毛病都不严重。人写的文字里也有一些这样的词：新的篇章里有新的名字和词，所以已知词的比例应当向人写的文字看齐，而不是向 100% 看齐。单看已知词，看不出循环：温度为 0 时，已知词和人写的一样多。前面算出的那些小风险，加起来是不是等于编造的词所占的比例？

# %% tags=["nbval-ignore-output"]
invented = 1 - torch.tensor([known_words(one) for one in written[1.0]])
error = invented.std() / len(invented) ** 0.5
print(f"风险加起来：拼错的词占 {slips(expected['6 layers'])[1]:.1%}；", end=" ")
print(f"温度为 1 时写出的：编造的词占 {invented.mean():.1%} ± {error:.1%}（标准误）")
if text.is_real and losses["6 layers"].mean() < 2:  # a model that has learned something
    cold, free = measured["repetition"][1, [0, 5]]
    assert cold > free, "概率最大的文字会陷入循环"

# %% [markdown] english="42a13be7"
# 大致如此，或许编造的还略少一些。
#
# ## 哪种深度写得最好？
#
# 提示文本相同，规则相同（温度 0.8，top-k 40，top-p 0.95），只有深度不同。一段文字只是一次抽取，所以每种深度写六段（约需半分钟），再加两个指标：
#
# * **最长照抄**：与训练文本逐字相同的最长一段；在表中人写的那一行里，相同只是碰巧。
# * **5-gram 损失**：第 1 讲的统计模型在这段文字上的损失；注意，这个统计模型学的也是同一份训练文本。

# %% tags=["nbval-ignore-output"]
about, rule = (models, judge, prompt, 8 * context), quality.SETTINGS[-1:]
tables = [quality.compare_samples(*about, seed, rule) for seed in range(6)]
table = pd.concat(tables).drop_duplicates(["arm", "text"])
columns = ["distinct_2", "repetition", "known_words", "longest_copy", "five_gram_loss"]
by_arm = table.groupby("arm", sort=False)[columns]
summary = by_arm.mean().round(3).astype(str) + " ± " + by_arm.std().round(3).astype(str)
summary.assign(texts=by_arm.size())

# %% tags=["nbval-ignore-output"]
figures.sample_comparison(table, note=text.note)

# %% [markdown] english="edec457b"
# ± 后面是各段文字之间的标准差；最后一行来自四段人写的文字，作为参照。两层的模型，已知词似乎少一些，但每种深度只有一个模型，指标却有五个，这可能只是偶然；四层和六层分不出高下。它们写的都比人写的文字容易预测，也许因为采样规则去掉了一些候选。比较损失不需要采样，更加可靠（不过也要注意第 5 讲里说的问题）。
#
# ## 自己动手
#
# 这个组件会当着你的面一个字符一个字符地写。把温度拉到 0，等它陷入循环。设成 1.5，关掉 top-p，再慢慢减小 top-p，直到像样的词重新出现。自己写第一行，勾选*全部并排*：哪种深度写出的内容，与你的开头连贯得最久？

# %% tags=["nbval-ignore-output"]
widgets.sampler(models, tokenizer, prompt, temperature=0.8, top_p=0.95)

# %% [markdown] english="3725e7cb"
# ## 本讲小结
#
# 温度、top-k 和 top-p，含义与常用的库一致；一个不改变结果的缓存，代价你也清楚；还有一套衡量文字的指标。
#
# ## 思考
#
# **1.** 窗口为什么要跳着移动，而不是每次滑一格？
#
# <details><summary>答案</summary>
#
# 窗口每滑一格，缓存里的键就过时了，整个窗口都要重新读一遍；跳着移动，每过半个上下文才重读一遍。 </details>
#
# **2.** 用缓存同时写 8 段文字，什么会变成 8 倍，什么不会？
#
# <details><summary>答案</summary>
#
# 键和值会；权重不会，要启动的运算次数也不会，而我们猜测，大部分时间都花在启动上。所以写 8 段花的时间，应该只比写一段多一点。 </details>

# %% [markdown] english="a038063a"
# ## 练习
#
# 补全每个代码骨架，再运行该单元格。
#
# ### 练习 6.1 · 热身 · 15 分钟
#
# 找循环：一段文字最早从哪个位置开始，一直循环到结尾？其中至少要有两个完整的周期（后面可以再有一个不完整的）。同时求出满足条件的最短周期的长度。没有循环，返回 `(len(text), 0)`。然后用 `generate`，在温度 0 下，接着 `"O "` 写 1,500 个字符。有循环吗？周期为什么是那么长？
#
# <details><summary>提示 1</summary>
#
# 周期为 `n` 时，`text[start:-n] == text[start + n:]`。 </details>
#
# <details><summary>提示 2</summary>
#
# 起点从 0 开始逐个试；对每个起点，周期从 1 试到剩余长度的一半。取最先符合的。 </details>
#
# <details><summary>第二问的答案</summary>
#
# 我们的 6 层模型，周期是 192 个字符，正好是窗口跳三次的距离。选哪个字符，与从哪里读起略有关系，所以只有文字和窗口的位置同时重复，才会形成循环。 </details>


# %% tags=["exercise"]
def loop_of(text):
    """-> (where the loop begins, how long a round is)"""
    ...


checks.check("6.1", loop_of)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def loop_of(text):
    for start in range(len(text)):
        for n in range(1, (len(text) - start) // 2 + 1):
            if text[start:-n] == text[start + n :]:
                return start, n
    return len(text), 0


checks.check("6.1", loop_of, quiet=True)

# %% [markdown] english="cdd2072a"
# ### 练习 6.2 · 核心 · 25 分钟
#
# *投机解码*（Leviathan 等，2023）。小模型按自己的分布 $q$ 起草一个词元；大模型的分布是 $p$，它要么接受这个词元，要么另抽一个来代替，使最后得到的词元服从分布 $p$。起草出来的每个词元，最高能以多大的概率接受？拒绝之后，又该从哪个分布里另抽？（$q = p$ 时不会有拒绝，返回 $p$ 就行。）
#
# 然后让 2 层的模型为 6 层的模型一次起草四个字符，后者一遍读完。有多少被接受？
#
# <details><summary>提示 1</summary>
#
# 一个词元，如果小模型给它的概率太低，就总是接受；如果是应有的两倍，就只以一半的概率接受。 </details>
#
# <details><summary>提示 2</summary>
#
# 一个词元起草后又被接受，概率是 min(p, q)。另抽时的分布，是 p 比它多出来的部分，除以这部分的总和。 </details>
#
# <details><summary>第二问的答案</summary>
#
# 运行折叠的答案里的 `draft_and_verify(model, models["2 layers"], tokens, 100)`。 </details>
#
# <details><summary>实际的做法</summary>
#
# 还可以更简单：让小模型和大模型跑*同一场赛跑*，也就是 `draw` 里各个长度都相同，两者抽到一样的就留下。这样没有什么要碰运气才接受，文本逐个字符就是大模型自己会写的。本课程的代码就是这样写的（`course_utils/generation/speculative.py`），起草的是第 1 讲的统计模型：对已记录的实验里宽 256 的 6 层模型，在两个核上大约快一倍；笔记本电脑上的小模型则得不偿失。 </details>


# %% tags=["exercise"]
def speculate(p, q):
    """p, q: (V,) of target and draft, above 0 -> accept (V,), instead (V,)"""
    ...


checks.check("6.2", speculate)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def speculate(p, q):
    missed = (p - q).clamp(min=0)
    total = missed.sum()
    return (p / q).clamp(max=1), missed / total if total > 0 else p


@torch.no_grad()
def draft_and_verify(target, draft, tokens, n, at_once=4):
    """Write n tokens, (1, T) -> (1, T + n), and the share of drafts accepted."""
    end, accepted, drafted = tokens.shape[1] + n, 0, 0
    while tokens.shape[1] < end:
        T, guesses = tokens.shape[1], tokens
        for _ in range(at_once):
            guesses = torch.cat([guesses, draw(draft(guesses)[:, -1])], dim=1)
        p, q = (m(guesses)[0, T - 1 : -1].softmax(-1) for m in (target, draft))
        for token, p_here, q_here in zip(guesses[0, T:], p, q, strict=True):
            accept, instead = speculate(p_here, q_here)
            drafted += 1
            if refused := torch.rand(()) > accept[token]:
                token = instead.multinomial(1)[0]
            accepted += not refused
            tokens = torch.cat([tokens, token.view(1, 1)], dim=1)
            if refused:
                break
    return tokens[:, :end], accepted / drafted


checks.check("6.2", speculate, quiet=True)

# %% [markdown] english="03a1b9e5"
# ### 练习 6.3 · 核心 · 10 分钟
#
# 过滤后的 logits 代表一个分布，求它的熵，单位是奈特。有些 logits 是 $-\infty$；去掉的词元对熵没有贡献。
#
# <details><summary>提示 1</summary>
#
# 沿最后一个轴求 $-\sum p \ln p$。$0 \cdot \ln 0$ 在计算机里会得到什么？ </details>
#
# <details><summary>提示 2</summary>
#
# 结果不是数（NaN）的，换成 0；或者用 `torch.special.entr`。 </details>


# %% tags=["exercise"]
def entropy_of(logits):
    """logits: (..., V), some -inf -> (...) nats"""
    ...


checks.check("6.3", entropy_of)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def entropy_of(logits):
    shares = logits.softmax(-1)
    return -(shares * logits.log_softmax(-1)).nan_to_num(nan=0.0).sum(-1)


checks.check("6.3", entropy_of, quiet=True)

# %% [markdown] english="d7727ea3"
# ### 练习 6.4 · 核心 · 30 分钟
#
# *束搜索*（beam search）寻找概率最大的文字：它保留 `width` 段候选，把每个词元都接到每一段后面试一遍，再从所有结果中留下概率最大的 `width` 段，如此 $n$ 次。返回最好的一段（包括提示文本），以及它的对数概率。
#
# 然后用束搜索写 100 个字符，与随机抽取的文字比较：模型自己的损失，还有重复率。
#
# <details><summary>提示 1</summary>
#
# 一段文字的对数概率，等于其中各个词元的对数概率之和。`(score, ids)` 这样的二元组可以排序。 </details>
#
# <details><summary>提示 2</summary>
#
# 所有候选的所有接法放进同一个列表，再取最好的 `width` 段。 </details>
#
# <details><summary>第二问的答案</summary>
#
# 在 `torch.no_grad()` 之下，`next_log_p = lambda ids: model(torch.tensor([ids]))[0, -1].log_softmax(-1)`；然后用 `losses_in(torch.tensor([ids]))`。我们试下来，束搜索写出的文字，损失只有抽取的文字和人写的文字的一半，而且会重复。束宽为八时找到的文字，概率反而低于束宽为四时：去掉的候选再也找不回来，而束宽为四时碰巧留住了更好的开头。 </details>


# %% tags=["exercise"]
def beam_search(next_log_p, prompt, n, width):
    """prompt: a list of ids. next_log_p(ids) -> (V,). -> (ids, log-probability)"""
    ...


checks.check("6.4", beam_search)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def beam_search(next_log_p, prompt, n, width):
    texts = [(0.0, list(prompt))]
    for _ in range(n):
        longer = [
            (score + x, [*ids, i])
            for score, ids in texts
            for i, x in enumerate(next_log_p(ids).tolist())
        ]
        texts = sorted(longer, reverse=True)[:width]
    score, ids = texts[0]
    return ids, score


checks.check("6.4", beam_search, quiet=True)

# %% [markdown] english="83418322"
# ### 练习 6.5 · 核心 · 15 分钟
#
# *Min-p*（Nguyen 等，2024）：一个词元的概率，只要不低于最大概率的某个给定比例，就留下来。去掉的词元变成 $-\infty$，其余保持原样；每一行有自己的最大概率。
#
# <details><summary>提示 1</summary>
#
# 先做 softmax，再用 `amax(-1, keepdim=True)`。 </details>
#
# <details><summary>提示 2</summary>
#
# 更短的写法：概率之比就是 logits 之差。把这个比例的 $\ln$ 加到最大的 logit 上。 </details>


# %% tags=["exercise"]
def min_p(logits, share):
    """logits: (..., V), share in (0, 1] -> (..., V); dropped = -inf"""
    ...


checks.check("6.5", min_p)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def min_p(logits, share):
    shares = logits.softmax(-1)
    return logits.masked_fill(shares < share * shares.amax(-1, keepdim=True), -math.inf)


checks.check("6.5", min_p, quiet=True)

# %% [markdown] english="200d9dd4"
# ### 练习 6.6 · 挑战 · 30 分钟
#
# 为了避免循环，Keskar 等（2019）把出现过的每个词元的 logit 除以一个惩罚系数。照字面去做，有些词元反而变得*更可能*。我们改成：惩罚系数为 2 时，正的 logit 减半，负的 logit 加倍；一个词元不管出现过多少次，只惩罚一次。输入保持原样。
#
# 然后复制一份 `write_with`，让它用 `penalise(logits[0], written[0].tolist(), 1.3).argmax()[None, None]`。贪心走出循环了吗？空格又受到什么影响？
#
# <details><summary>提示 1</summary>
#
# logit 是 −2，除以 2 变成 −1：离最大值更近了。 </details>
#
# <details><summary>提示 2</summary>
#
# 先做一个掩码，标出出现过的词元（由 `set(seen)` 得到），再用两次 `torch.where`。 </details>


# %% tags=["exercise"]
def penalise(logits, seen, penalty):
    """logits: (V,), seen: a list of ids, penalty >= 1 -> (V,)"""
    ...


checks.check("6.6", penalise)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def penalise(logits, seen, penalty):
    was_seen = torch.zeros_like(logits, dtype=torch.bool)
    was_seen[list(set(seen))] = True
    lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(was_seen, lowered, logits)


checks.check("6.6", penalise, quiet=True)

# %% [markdown] english="b3490a13"
# ### 练习 6.7 · 挑战 · 120 分钟
#
# *典型采样*（typical sampling，Meister 等，2023）：前面看到，人写的文字里，只有一半的字符是概率最大的那个。因此，这种方法看每个词元的损失 $-\ln p$ 与熵相差多少，按差距从小到大排序，依次保留，直到总概率达到给定的值，至少留一个。
#
# 然后让总概率在 0.2 到 0.95 之间取几个值，每个值用三个种子各写 1,000 个字符，用 `judge.measure` 测量。它比 top-p 更接近人写的那一行吗？这个优势，超过各个种子之间的差异吗？
#
# <details><summary>提示 1</summary>
#
# 就是换了排序标准的 top-p。概率最大的词元也可能被去掉，这正是它的用意。 </details>
#
# <details><summary>提示 2</summary>
#
# `order = (losses - entropy).abs().argsort()`。如果排在一个词元*之前*的总概率 `cumsum(0) - sorted` 小于给定的值，它就留下。 </details>


# %% tags=["exercise"]
def typical_keeps(probabilities, mass):
    """probabilities: (V,), all above 0; mass in (0, 1) -> (V,) bool, True: it stays"""
    ...


checks.check("6.7", typical_keeps)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def typical_keeps(probabilities, mass):
    losses = -probabilities.log()
    order = (losses - (probabilities * losses).sum()).abs().argsort()
    sorted_shares = probabilities[order]
    stays = sorted_shares.cumsum(0) - sorted_shares < mass
    return torch.zeros_like(stays).scatter(0, order, stays)


checks.check("6.7", typical_keeps, quiet=True)

# %% [markdown] english="0baa7215"
# ## 自测
#
# **1. 温度从 1 变成 0.5。最大的两个概率之比会怎样？** (a) 不变 · (b) 加倍 · (c) 变成平方
#
# <details><summary>答案</summary>
#
# **(c)** 这个比是 $e^{(z_1 - z_2)/\tau}$；$\tau$ 减半，指数就加倍。只去掉其他字符的过滤器，才会让它不变 (a)；加倍的是 logits 之差 (b)。 </details>
#
# **2. 模型 A 的文字，5-gram 损失比人写的文字低。那么 A……** (a) 写得比人好 · (b) 比人写的更容易预测 · (c) 照抄了
#
# <details><summary>答案</summary>
#
# **(b)**，仅此而已。(a) 把指标当成了目标：通篇“the the the”，得分也很好。(c) 有可能，但要看*最长照抄*。 </details>
#
# **3. 为什么贪心写出的文字比随机抽取的更容易陷入循环？** (a) 模型训练时见过循环 · (b) 几个字符就能决定下一个，而贪心在每一处都只有一种接法
#
# <details><summary>答案</summary>
#
# **(b)** 与你在我们的模型上测得的一致：抽取时，每一步都可能离开循环。(a) 不大可能：训练文本很少重复。 </details>
#
# **下一步：** 动手改一改。`course ablate` 把第 5 讲的任何一个实验完整地跑一遍；`course generate` 想写多少就写多少。
