"""The course in Chinese: the catalogue has all that is said, and that is what a reader meets."""

import ast
import itertools
import re
from textwrap import wrap

import jupytext
import pytest
import torch

from course_utils import checks, corpus, figures, messages, widgets
from course_utils.__main__ import main
from course_utils.classroom import grading, judge
from course_utils.messages.lines import fold, width
from course_utils.messages.names import translated
from course_utils.research import studies
from course_utils.research.comparisons import compare
from helpers import NOTE
from pages import serving, watched, widget_site
from tools import messages as tool

CHINESE = re.compile("[\u4e00-\u9fff]")


@pytest.fixture
def chinese(monkeypatch):
    monkeypatch.setenv("COURSE_LANGUAGE", "zh")
    monkeypatch.setenv("COURSE_VARIANT", "0")


def test_the_catalogue_is_in_step_and_whole():
    catalogue = tool.wanted()
    assert not tool.stale(catalogue), "run python tools/messages.py"
    assert list(tool.untranslated(catalogue)) == []


def looked_up(source):
    """The literals that stand first in a call of `_`, `N_` or `say`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("_", "N_", "say"):
            yield from (one.value for one in node.args[:1] if isinstance(one, ast.Constant))


def test_nothing_is_looked_up_that_the_catalogue_has_not_found():
    catalogue = tool.wanted()
    texts = {
        text
        for folder in tool.FOLDERS
        for path in (tool.ROOT / folder).rglob("*.py")
        for text in looked_up(path.read_text(encoding="utf-8"))
    }
    assert len(texts) > 1000
    assert [text for text in texts if text and text not in catalogue] == [], "a call in a call?"


def test_what_is_missing_or_has_other_placeholders_is_found():
    catalogue = tool.wanted()
    catalogue["curve {letter}"].string = "曲线 {buchstabe}"
    catalogue["truth values"].string = ""
    assert len(list(tool.untranslated(catalogue))) == 2
    assert tool.placeholders("{n:,} of %s") != tool.placeholders("{n:,} of %d")


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "en_GB.UTF-8", "COURSE_LANGUAGE": "zh"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "COURSE_LANGUAGE": "en"}, "en"),
    ],
)
def test_the_language_is_the_readers(monkeypatch, variables, code):
    for variable in (messages.VARIABLE, *messages.SYSTEM):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert messages.language() == code


def test_an_unknown_language_is_named(monkeypatch):
    monkeypatch.setenv("COURSE_LANGUAGE", "fr")
    with pytest.raises(ValueError, match="COURSE_LANGUAGE 'fr'; allowed are en, zh"):
        messages.language()


@pytest.mark.usefixtures("chinese")
def test_a_check_answers_in_chinese():
    def strict(n):
        at = torch.arange(n)
        return at < at[:, None]

    assert str(checks.answer("2.1", None)) == "2.1 还没有作答。"
    assert str(checks.answer("2.1", strict)) == (
        "2.1 还不对：给定 T = 5，应得 True（位置 [0, 0]），你得到的是 False（位置 [0, 0]）。"
        "想一想：一个位置是不是不能看到自己？"
    )
    assert CHINESE.search(checks.sizes("5.1")["a"])


@pytest.mark.usefixtures("chinese")
def test_the_chinese_solution_reads_the_chinese_sentences(capsys):
    """Its words come from the lesson's catalogue, the sentences of 5.1 from the course's."""
    cells = jupytext.read(tool.ROOT / "notebooks/zh/05_ablation.py").cells
    [solution] = [cell.source for cell in cells if 'check("5.1", too_much, quiet' in cell.source]
    exec(solution, {"checks": checks})
    assert capsys.readouterr().out == "", "said where it is wrong"


@pytest.mark.usefixtures("chinese")
def test_what_a_lesson_prints_and_draws_is_chinese(corpus_file):
    text = corpus.load(corpus_file)
    note = "训练文本是 hamlet.txt，不是 Tiny Shakespeare。"
    assert text.describe().endswith(f"来源：hamlet.txt。{note}")
    assert text.note == "Trained on hamlet.txt, not on Tiny Shakespeare.", "records are English"
    assert translated(text.note) == note
    assert translated(NOTE) == "练习文本，由课程自己的模型写成，不是莎士比亚的作品。"
    assert studies.STUDIES["depth-300"].question.startswith("训练 300 步，每种深度用自己的学习率")
    verdict = compare("4 layers", {0: 1.5, 1: 1.6}, "2 layers", {0: 1.8, 1: 1.91}).verdict_in
    assert verdict("chinese").startswith("4 层的预测优于 2 层：-0.305 奈特/字符（95% 置信区间")
    assert verdict("english").startswith("4 layers predict better than 2 layers: -0.305 nats/char")
    assert CHINESE.search(figures.kv_cache(7).get_label())
    assert not CHINESE.search(figures.kv_cache(7, language="english").get_label())


def test_a_line_ends_where_a_typesetter_would_end_it():
    said = [message.string for message in tool.wanted() if isinstance(message.string, str)]
    for text, columns in itertools.product("\n".join(said).split("\n"), (20, 66)):
        lines = fold(text, columns, whole=True)
        assert not [line for line in lines[1:] if line[0] in "，。、；：？！）”》％·,.;:)%"]
        assert not [line for line in lines[:-1] if line[-1] in "（“《([="]
        for same in (r"[\w.{}–%^-]+", r"\S"):  # no word or number is cut, no sign lost
            assert re.findall(same, "\n".join(lines), re.ASCII) == re.findall(same, text, re.ASCII)
        wide = [line for line in lines if width(line) > columns]
        assert not [line for line in wide if re.search("[\u4e00-\u9fff]{3}", line)], "could end"


def test_a_formula_and_a_number_with_what_it_counts_stay_together():
    title = "验证损失（奈特/字符）：学习率 0.0024 时 6 层比 4 层低 0.0185，T = 256"
    assert fold(title, 25) == [
        "验证损失（奈特/字符）：学",
        "习率 0.0024 时 6 层比",
        "4 层低 0.0185，T = 256",
    ]
    assert fold("/a/long/path", 5) == ["/a/lo", "ng/pa", "th"]
    assert fold("one two\u00a0three", 12) == ["one", "two\u00a0three"], "what is held stays"
    assert fold("  it is /a/long/path", 8, "  ", whole=True) == ["  it is", "  /a/long/path"]
    english = " ".join(figures.__doc__.split())
    assert fold(english, 30) == wrap(english, 30, break_on_hyphens=False)


@pytest.mark.usefixtures("chinese")
def test_of_grades_the_sentences_are_chinese_and_the_verdicts_are_not(tmp_path):
    exercise = checks.find("2.5")
    said = judge.in_words(exercise, checks.Answer("2.5", "right"))
    assert said == "read it yourself: 值都对，但同时保存多少个键只是 notebook 自己说的"
    row = {"right": 1, "problem": "", "1.1": "right", "1.2": "not yet", "2.5": said}
    assert grading.in_words(row) == "共 3 题，答对 1 题，1 题需要你自己看"
    with pytest.raises(ValueError, match="里没有找到 notebook"):
        grading.notebooks_in([tmp_path])


@pytest.mark.usefixtures("chinese")
def test_the_command_line_speaks_chinese_and_argparse_with_it(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = capsys.readouterr().out
    assert said.startswith("用法：course train [-h]")
    assert not re.search("usage|options|show this|default", said)
    with pytest.raises(SystemExit):
        main(["train", "--seeds", "none"])
    said = capsys.readouterr().err
    assert said == (
        "course train：参数 --seeds：'none' 不是不小于 1 的整数；说明请看 `course train --help`。\n"
    )


@pytest.mark.parametrize(
    ("code", "name", "status"),
    [("en", "Generate", "40 characters written"), ("zh", "生成", "写了 40 个字符")],
)
def test_the_widget_speaks_the_readers_language(browser, tmp_path, monkeypatch, code, name, status):
    monkeypatch.setenv("COURSE_LANGUAGE", code)
    with serving(widget_site(tmp_path)) as site:
        page = watched(browser.new_page(), site)
        page.goto(f"{site}page.html#prompt=ROMEO:&length=40")
        page.locator("[role=status]", has_text=status).wait_for()
        assert page.get_by_role("button", name=name, exact=True).is_visible()
        assert bool(CHINESE.search(page.content())) == (code == "zh")
        assert page.problems == []
        page.close()
    assert bool(CHINESE.search(widgets.front_end())) == (code == "zh")
