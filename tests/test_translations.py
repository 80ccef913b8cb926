"""The Chinese edition is in step with the English, and what checks this misses no planted fault.

What no machine sees: a wrong meaning, a hedge grown stronger, a number in words, a "not" where
another one is left, a sentence that sounds translated. These are for readers.
"""

import re
import shutil
from functools import cache

import pytest
import translations

TERMS = translations.vocabulary()
LESSON = "notebooks/02_attention.py"
WORDS = "notebooks/02_attention.po"
IN_ORDER = {"stale": [], "missing": [], "faults": []}


def verdict(path):
    found = translations.report(path, TERMS)
    return {name: found[name] for name in IN_ORDER}


TRANSLATED = [path for path in translations.originals() if translations.twin(path).is_file()]


@pytest.mark.parametrize("path", TRANSLATED, ids=lambda path: path.stem)
def test_the_edition_is_in_step(path):
    assert verdict(path) == IN_ORDER


def again(pattern, change, text):
    """The text with the first match changed."""
    changed, count = re.subn(pattern, change, text, count=1, flags=re.MULTILINE | re.DOTALL)
    assert count, f"nothing is like {pattern}: plant this fault elsewhere"
    assert changed != text
    return changed


def copied(name, root):
    """An English file with its twin in another folder. -> the English one"""
    for path in (
        translations.ROOT / name,
        *translations.twin(translations.ROOT / name).parent.glob(
            f"{translations.Path(name).stem}.*"
        ),
    ):
        target = root / path.relative_to(translations.ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return root / name


PAGE, ITEMS, ENTRIES, TORCH = (
    "book/teaching.md",
    "book/intro.md",
    "book/glossary.md",
    "book/pytorch.md",
)


def without_not(text):
    return re.sub("[不没无非未别莫勿否缺只仅]", "", text[0])


BEGINS = r"^(# %% \[markdown\][^\n]*\n)"
PLANTED = {
    # what is planted: (file, what stands there, what replaces it, a word of the verdict)
    "a number": (PAGE, r"\b45\b", "54", "number lost: 45"),
    "a decimal": ("notebooks/04_train.py", r"4\.17", "4.71", "number lost: 4.17"),
    "a sign": ("notebooks/06_sampling.py", r"(?<= )−2", "2", "number lost: −2"),
    "a per cent": ("notebooks/06_sampling.py", r"8%", "8", "number lost: 8%"),
    "a number too many": (LESSON, r"^(# [\u4e00-\u9fff]+)", r"\1 7 ", "number too many: 7"),
    "ten thousand for a million": (ITEMS, r"(?<=[\u4e00-\u9fff])一百万", "100 万", "1000000"),
    "a formula": (LESSON, r"\\top", r"\\bot", "formula"),
    "a formula's sign": ("notebooks/01_data.py", r"\$-\\ln p\$", r"$\\ln p$", "formula"),
    "a formula alone": (LESSON, r"^# \$\$.*?\$\$\n#\n", "", "became"),
    "a code span lost": (LESSON, r"^(# [^`\n]*)`(\w+)`", r"\1\2", "code span lost"),
    "a code span changed": (PAGE, r"`(\w+)`", r"`\1s`", "code span lost"),
    "a link lost": (LESSON, r"\[([^\]]+)\]\(\.\.[^)]+\)", r"\1", "link lost"),
    "a link to the English": (LESSON, r"\.\./\.\./book/zh/", "../../book/", "link lost"),
    "a link elsewhere": (PAGE, r"\(playground\.md\)", "(results.md)", "link too many"),
    "an anchor": (LESSON, r"#exercise-2-6", "#exercise-2-5", "link lost"),
    "a picture": (ITEMS, "result_chinese", "result_english", "picture lost"),
    "a heading's level": (LESSON, r"^# ## ", "# ### ", "became"),
    "a heading made bold": (LESSON, r"^# ## ([^\n]+)", r"# **\1**", "became"),
    "an exercise's number": (LESSON, r"练习 2\.2", "练习 2.3", "number lost: 2.2"),
    "a hint lost": (LESSON, r"^# <details><summary>提示 2.*?</details>\n", "", "became"),
    "a fold not closed": (LESSON, r" ?</details>", "", "tag lost: </details>"),
    "a fold's name": (LESSON, r"提示 1", "线索 1", "is not called 提示"),
    "a row swapped": (LESSON, r"^(# \| \*\*查询.*?\n)(# \| \*\*键.*?\n)", r"\2\1", "formula lost"),
    "a row lost": (LESSON, r"^# \| \*\*查询.*?\n", "", "became"),
    "a column lost": (PAGE, r"^\|([^|\n]+)\|[^|\n]+\|", r"|\1|", ""),
    "an item lost": (ITEMS, r"^\* .*?\n(?=\* )", "", "became"),
    "items swapped": (ITEMS, r"^(\* \*\*PyTorch.*?\n)(\* .*?\n)(?=\* )", r"\2\1", "link"),
    "bold lost": (LESSON, r"\*\*先猜。\*\*", "先猜。", "bold"),
    "another word for a bold term": (LESSON, r"\*\*投影", "**映射", "is not called 投影"),
    "another word for a term": (LESSON, r"因果掩码", "因果遮罩", "因果掩码"),
    "a paragraph in English": (
        ITEMS,
        r"^[\u4e00-\u9fff][^\n]*(\n[^\n]+)*",
        "Each lesson opens alone. In order they make one story.",
        "not translated",
    ),
    "a sentence in English": (
        ITEMS,
        r"^(# [^\n]*\n\n[^\n]*\n)",
        r"\1This course takes you from counting letters to a GPT that has read nothing\n",
        "",
    ),
    "half a paragraph": (
        "notebooks/03_model.py",
        r"^(# [\u4e00-\u9fff][^\n]{20})[^\n]{100,}\n",
        "\\1。\n",
        "",
    ),
    "a paragraph lost": (PAGE, r"^[\u4e00-\u9fff][^\n]*\n([^\n]+\n)*\n", "", "became"),
    "a not lost": (
        "notebooks/03_model.py",
        r"^# \*\*1\.\*\* [^\n]*",
        without_not,
        "a “not” is lost",
    ),
    "texts swapped": (
        LESSON,
        BEGINS + r"(# ## [^\n]*\n.*?)^# %%(.*?)" + BEGINS + r"(.*?)(?=^# %%)",
        r"\1\5# %%\3\4\2",
        "",
    ),
    "a line's end among signs": (
        ITEMS,
        r"^([\u4e00-\u9fff]{3})(?=[\u4e00-\u9fff])",
        "\\1\n",
        "a blank",
    ),
    "a mark that doesn't close": (
        LESSON,
        r"\*\*([\u4e00-\u9fff]+)\*\*（([a-z]+)）",
        r"**\1（\2）**字",
        "marks nothing",
    ),
    "a cell in English": (
        LESSON,
        BEGINS + r"# [\u4e00-\u9fff].*?(?=\n# %%)",
        r"\1# The words are gone, and nobody has put them back.\n",
        "",
    ),
    "a cell lost": (LESSON, BEGINS + r".*?(?=^# %%)", "", "missing"),
    "code changed": (LESSON, r"^B, T, C, D = 2, 5", "B, T, C, D = 2, 6", "out of step"),
    "a tag lost": (LESSON, r' tags=\["export"\]', "", "out of step"),
    "another hash": (LESSON, r'english="\w', 'english="x', "stale"),
    "the English changed": ("english " + LESSON, r"^# ## Step 1", "# ## Step one", "stale"),
    "English added": (
        "english " + LESSON,
        r"^# %% \[markdown\]\n",
        "# %% [markdown]\n# A new cell of five words.\n\n# %% [markdown]\n",
        "missing",
    ),
    "English code changed": (
        "english " + LESSON,
        r"^B, T, C, D = 2, 5",
        "B, T, C, D = 3, 5",
        "out of step",
    ),
    "a placeholder": (WORDS, r'^(msgstr "[^\n]*)\{[^}\n]*\}', r"\1", "placeholders"),
    "words that no code says": (WORDS, r'^msgid "(?=\w)', 'msgid "not ', "no code says"),
    "no Chinese": (WORDS, r'^msgstr "[^"\n]+"\n(?=\nmsgid "[a-z])', 'msgstr ""\n', "no Chinese"),
    "words not listed": (WORDS, r'^msgid "[a-z]+ [a-z]+ .*?\n\n', "", "not in the catalogue"),
    "Chinese that ends the string": (
        WORDS,
        r'^(msgstr "[^"\n]+)"\n(?=\nmsgid "[a-z])',
        r'\1\\""' + "\n",
        "",
    ),
    "a directive": (ITEMS, r"```\{sample\}", "```{recorded} train", "became"),
    "a directive lost": (ITEMS, r"```\{sample\}\n```\n", "", "became"),
    "an option": (ITEMS, r":gutter: 2", ":gutter: 3", "option lost"),
    "an attribute": (ITEMS, r'data-length="300"', 'data-length="30"', "attribute lost"),
    "an entry's other name": (ENTRIES, r"^BPE\n", "", "all English ones"),
    "another word for an entry": (ENTRIES, r"^困惑度\n", "迷惑度\n", "perplexity"),
    "entries swapped": (ENTRIES, r"^(困惑度\n.*?\n\n)(.*?\n\n)", r"\2\1", "entry"),
    "code of a page": (TORCH, r"lr=0\.1", "lr=0.2", "code lost"),
    "what code prints": (TORCH, r"torch\.Size\(\[2, 3\]\)", "torch.Size([3, 2])", "code lost"),
    "the end of a page": (PAGE, r"\n% english: \w+\n(?!.*% english).*", "", "missing"),
    "a section that is not up to date": ("english " + PAGE, r"\b45\b", "46", "stale"),
}


def said(path):
    """What is found of a file, in sentences."""
    found = verdict(path)
    places = {f"{name}: {i}" for name in ("stale", "missing") for i in found[name]}
    return {*found["faults"], *places}


@cache
def untouched(name):
    return said(translations.ROOT / name)


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(tmp_path, fault):
    name, there, instead, word = PLANTED[fault]
    *english, name = name.split()
    path = copied(name.replace(".po", ".py"), tmp_path)
    spoilt = path if english else translations.twin(path).with_suffix(name[-3:])
    spoilt.write_text(again(there, instead, spoilt.read_text(encoding="utf-8")), encoding="utf-8")
    new = said(path) - untouched(name.replace(".po", ".py"))
    assert any(word in sentence for sentence in new), new
