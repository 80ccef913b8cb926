"""What labels say, in English or Chinese, in signs that a font has and in lines that fit."""

import re
import unicodedata
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from textwrap import wrap
from typing import NamedTuple

from matplotlib import font_manager

LANGUAGES = ("english", "chinese")
LOSS = ("validation loss (nats/character)", "验证损失（奈特/字符）")
UNTOUCHED = ("loss on the untouched plays (nats/character)", "未见剧本上的损失（奈特/字符）")
PERPLEXITY = ("perplexity (characters)", "困惑度（字符）")
PARAMETERS = ("parameters (millions)", "参数量（百万）")
CHINESE = {  # names of baselines and arms
    "uniform": "均匀分布",
    "unigram": "一元语法",
    "bigram": "二元语法",
    **{f"{i}-gram": f"{sign}元语法" for i, sign in enumerate("一二三四五六七八九", start=1)},
    "human reference": "真人原文",
    "no positions": "无位置信息",
    "learned positions": "可学习位置",
    "sinusoidal positions": "正弦位置",
    "rotary positions": "旋转位置 RoPE",
    "LayerNorm before": "LayerNorm 前置",
    "LayerNorm after": "LayerNorm 后置",
    "RMSNorm before": "RMSNorm 前置",
    "no norm": "无归一化",
    "squared ReLU": "ReLU 的平方",
    "residuals": "有残差",
    "no residuals": "无残差",
    "tied embeddings": "共享嵌入",
    "two embeddings": "两个嵌入",
    "no QK-norm": "无 QK-norm",
    "constant rate": "学习率不变",
    "falling over the second half": "后半段下降",
    "falling all the time": "一直下降",
    "no warm-up": "无预热",
    "plain protocol": "原始方案",
    "fair rate": "公平学习率",
    "fair rate with early stopping": "公平学习率加提前停止",
    "equal parameters": "参数量相同",
    "equal time": "时间相同",
    "unchanged": "不改",
    "unchanged, other seeds": "不改，换种子（对照）",
}
PATTERNS = {  # parts of an arm's name that hold a number
    r"^(\d+) layers?\b": r"\1 层",
    r"^(\d+) heads?$": r"\1 个头",
    r"^context (\d+)$": r"上下文 \1",
    r"^batch x (.+)$": r"批量 ×\1",
    r"^feed-forward x (.+)$": r"前馈宽度 ×\1",
    r", width (\d+)$": r"，宽 \1",
    r", (\d+) steps$": r"，\1 步",
    r", (.+) of the text$": r"，\1 文本",
    r"^([\d,]+) steps$": r"\1 步",
    r"^(\d+) million characters$": r"\1 百万字符",
    r"^all (\d+) plays$": r"全部 \1 部剧",
}


class Measure(NamedTuple):
    """A measure of a text: its name and its unit, in both languages."""

    name: tuple
    unit: tuple


MEASURES = {  # a column of a table of texts -> what it measures
    "distinct_2": Measure(("distinct pairs", "不同词对"), ("share", "比例")),
    "repetition": Measure(("repetition", "重复"), ("share", "比例")),
    "known_words": Measure(("known words", "已知词"), ("share", "比例")),
    "longest_copy": Measure(("longest copy", "最长照抄"), ("characters", "字符")),
    "five_gram_loss": Measure(("5-gram loss", "五元语法损失"), ("nats/char.", "奈特/字符")),
}


def speaker(language):
    """The function that picks the words of this language: say(english, chinese)."""
    if language not in LANGUAGES:
        raise ValueError(f"unknown language {language!r}; allowed are {', '.join(LANGUAGES)}")
    return lambda english, chinese: chinese if language == "chinese" else english


def translated(label, language):
    """An arm's or a baseline's name in this language: "2 layers, 300 steps" -> "2 层，300 步"."""
    if language == "chinese":
        label = CHINESE.get(label, label)
        for pattern, words in PATTERNS.items():
            label = re.sub(pattern, words, label)
    return drawable(label)


def with_minus(text):
    """A minus sign where a hyphen stands for one."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


def three_digits(value):
    """A count with three digits that mean something: 43152.9 -> "43,200"."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


@cache
def fonts(language):
    """Font families in the order to try; "Noto Sans SC" comes with the package zhplot."""
    package = find_spec("zhplot")  # found, not imported: importing it changes matplotlib's defaults
    if package is None:
        if language == "chinese":
            raise ModuleNotFoundError(
                "Chinese labels need the font in the package zhplot: pip install zhplot"
            )
        return ["DejaVu Sans"]
    file = Path(package.origin).parent / "fonts" / "NotoSansSC-Regular.ttf"
    font_manager.fontManager.addfont(file)
    families = ["DejaVu Sans", "Noto Sans SC"]
    return families[::-1] if language == "chinese" else families


@cache
def has_glyph(character):
    """Whether one of the fonts can draw this character, and it is something to see."""
    if unicodedata.category(character) in ("Cc", "Cf"):
        return False
    files = (font_manager.findfont(family) for family in fonts("english"))
    return any(font_manager.get_font(file).get_char_index(ord(character)) for file in files)


def drawable(text):
    """The text, an unseen control or a sign that no font has as its code point, "U+202E"."""
    return "".join(
        c if c == "\n" or has_glyph(c) else f"U+{ord(c):04X}" for c in str(text).expandtabs(4)
    )


def visible(text):
    """The text as a label: a space as ␣, a line break as ⏎."""
    return drawable(str(text).replace(" ", "␣").replace("\n", "⏎"))


def width(text):
    """How many columns of a fixed-width font the text takes: a Chinese sign takes two."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def fold(text, columns, indent=""):
    """The text's lines, none wider than so many columns; indent: before each continued line."""
    if text:
        columns = columns * len(text) // width(text)  # Chinese signs take two each
    return [
        part
        for line in drawable(text).split("\n")
        for part in wrap(line, columns, subsequent_indent=indent) or [""]
    ]
