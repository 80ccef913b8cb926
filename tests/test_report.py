"""The one-page report, in a real browser with no network: it asks for nothing, runs nothing,
fits a phone, and says in both languages what its numbers say."""

import html
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from course_utils import files
from course_utils.corpus import Corpus
from course_utils.generation import quality
from course_utils.research import (
    comparisons,
    experiment,
    groups,
    recorded,
    report,
    report_sheets,
    report_text,
    tables,
)
from course_utils.research.report_text import Material
from course_utils.training import runs
from helpers import LANGUAGES, SPEECH
from pages import barriers, pale_words
from pages import visit_file as visit

HOSTILE = [
    "<img src=x onerror=\"document.title='broken'\">",
    "</script><script>document.title='broken'</script>",
    (
        "</pre></details></table><iframe src='https://example.org'></iframe><link "
        "rel=stylesheet href=//example.org/x.css>"
    ),
    "{{ 7*191 }} {% include '/etc/passwd' %} &amp; \" onload=\"document.title='broken'",
    "\u202eright to left\u2067 again שלום",
]
TITLE = "Shakespeare, Layer by Layer: results"
BUTTON = {"english": "English", "chinese": "中文"}
# What the assignment asks a report to have, and the names under which it must be found.
ASKED = {
    "english": """Training and validation curves: loss and perplexity, Ablation of the layers,
        Parameters and performance, Generated samples, Coherence, Diversity, Plausibility,
        Training time, Inference speed, Memory""",
    "chinese": """训练与验证曲线：损失与困惑度, 层数消融对比, 参数量与性能, 生成样本, 连贯性,
        多样性, 合理性, 训练时间, 推理速度, 内存占用""",
}
ASKED = {language: re.split(r",\s+", names) for language, names in ASKED.items()}


def measured_texts(arms):
    """A row a text, as quality.compare_samples makes them, of hostile texts."""
    rows = []
    for setting in quality.SETTINGS:
        for i, arm in enumerate(arms):
            about = {"arm": arm, "seed": 0, "prompt": HOSTILE[0], "corpus": HOSTILE[1]}
            text = f"{HOSTILE[i]}\n" * 3
            rows.append(about | setting | measures(text, 0.8 + i / 50))
    for i in range(4):
        rows.append({"arm": quality.HUMAN, "corpus": HOSTILE[1]} | measures("human", 0.9 + i / 90))
    return pd.DataFrame(rows, columns=quality.COLUMNS)


def measures(text, value):
    shares = dict.fromkeys(("distinct_2", "known_words"), value)
    return {"text": text, "repetition": 0.01 / value, "longest_copy": 20, **shares} | {
        "five_gram_loss": 2 * value
    }


@pytest.fixture(scope="module")
def material():
    """The published laptop runs, with curves of many points, and hostile words wherever any fit."""
    found = [
        r for r in runs.load_all(files.PUBLISHED) if (r.study, r.recipe) == ("depth", "laptop")
    ]
    found.sort(key=lambda r: r.model["n_layers"])
    environment = found[0].environment | {"command": HOSTILE[2], "device": HOSTILE[3]}
    found[0] = replace(found[0], environment=environment)
    corpus = Corpus(SPEECH, HOSTILE[4], "0123456789abcdef" * 4, HOSTILE[0], HOSTILE[1])

    curves = experiment.by_epoch(tables.curves(found), corpus)
    watched = curves["step"].mod(125).lt(26) & curves["validation_loss"].isna()
    curves.loc[watched, "validation_loss"] = curves["training_loss"] + 0.05
    final = tables.final_table(found)
    arms = tables.arm_table(final).assign(
        model_mb=[1.8, 3.3, 4.9],
        training_mb=[20.0, 40.0, 60.0],
        step_s=[0.05, 0.1, 0.15],
        step_high_s=[0.06, 0.12, 0.18],
        generation_characters_per_s=[500.0, 300.0, 200.0],
        generation_low=[450.0, 250.0, 150.0],
        generation_high=[550.0, 350.0, 250.0],
        generation_device=HOSTILE[3],
        generation_threads=2,
    )
    baselines = {"uniform": 4.174, "bigram": 2.486, "5-gram": 1.669}
    texts = measured_texts(arms["arm"])
    compared = comparisons.adjacent(found)
    return Material(corpus, found, curves, final, arms, texts, baselines, compared)


@pytest.fixture(scope="module")
def page_file(material, tmp_path_factory):
    drawn = experiment.draw(material)
    pictures = {
        name: {language: drawn[experiment.figure_file(file, language)] for language in LANGUAGES}
        for name, file in experiment.FIGURES.items()
    }
    return report.write(tmp_path_factory.mktemp("results"), material, pictures)


HANDLERS = (
    "[...document.querySelectorAll('*')].flatMap(e => "
    "[...e.attributes]).filter(a => /^on/.test(a.name)).length"
)


@pytest.mark.promise("text")
def test_nothing_is_asked_for_and_nothing_runs(browser, page_file):
    page = visit(browser, page_file)
    assert page.asked == []
    assert page.complaints == []
    assert page.title() == TITLE
    assert page.locator("script, iframe, link, object, embed, img").count() == 0
    assert page.locator("svg").count() == 2 * len(experiment.FIGURES)
    assert page.evaluate(HANDLERS) == 0
    body = page.locator("body").text_content()
    assert [text for text in HOSTILE if text not in body] == [], "hostile text is shown as it is"
    assert "1337" not in body, "nor is a template in it filled in"


@pytest.mark.promise("broken")
def test_unescaped_it_would_be_broken(browser, page_file, tmp_path):
    mutant = tmp_path / "mutant.html"
    mutant.write_text(html.unescape(page_file.read_text("utf-8")), "utf-8")
    page = visit(browser, mutant)
    assert page.locator("iframe, script").count() > 0
    assert page.evaluate(HANDLERS) > 0
    assert page.title() == TITLE, "the page's own policy still lets nothing run"
    mutant.write_text(mutant.read_text("utf-8").replace("Content-Security-Policy", "x"), "utf-8")
    page = visit(browser, mutant)
    assert page.title() == "broken", "the hostile text can do harm"
    assert page.asked


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_it_fits_the_screen(browser, page_file, width, scheme, language):
    page = visit(browser, page_file, width, scheme)
    page.get_by_text(BUTTON[language], exact=True).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("details").evaluate_all("all => all.forEach(e => e.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.locator(".scroll:visible, .picture:visible").evaluate_all(
        "all => all.map(e => [e.scrollWidth > e.clientWidth, e.tabIndex])"
    )
    assert {tab for _, tab in boxes} == {0}, "a keyboard can scroll a table and a figure"
    assert any(wide for wide, _ in boxes), "what is wide scrolls in its own box"
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    dark, light = sorted((ink, paper), key=lambda color: sum(map(int, re.findall(r"\d+", color))))
    assert (ink if scheme == "light" else paper) == dark
    assert (paper if scheme == "light" else ink) == light
    letters = page.locator(".picture:visible text").evaluate_all(
        "all => Math.min(...all.map(e => e.getBoundingClientRect().height))"
    )
    assert letters > 9, "no word of a figure is smaller than a phone can show"


def shown(page):
    """The words on the page, as they are seen."""
    return page.locator("main").inner_text()


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_switch_shows_one_language(browser, page_file, language):
    page = visit(browser, page_file)
    page.get_by_text(BUTTON[language], exact=True).click()
    other = "en" if language == "chinese" else "zh"
    assert page.locator(f"main [lang|={other}]:visible").count() == 0
    assert page.locator("main svg:visible").count() == len(experiment.FIGURES)
    assert ("莎士比亚" in shown(page)) == (language == "chinese")


def missing(page, language):
    """What the assignment asks for and no heading of the page names."""
    headings = page.locator("h2:visible, h3:visible").all_inner_texts()
    return [name for name in ASKED[language] if name not in headings]


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_that_is_asked_for_is_there_under_its_name(browser, page_file, language):
    page = visit(browser, page_file)
    page.get_by_text(BUTTON[language], exact=True).click()
    assert missing(page, language) == []
    for heading in ("#curves", "#ablation", "#parameters"):
        after = page.locator(f"{heading} + figure")
        assert after.locator("svg:visible").count() == 1
        assert re.search(r"\d", after.locator("figcaption").inner_text())
    for heading in ("coherence", "diversity", "plausibility", "training-time", "inference-speed"):
        words = page.locator(f"[data-said={heading}]:visible").inner_text()
        assert len(re.findall(r"\d+", words)) >= 3, "a number a model"
    page.locator("h3:visible", has_text=ASKED[language][6]).evaluate("e => e.remove()")
    assert missing(page, language) == [ASKED[language][6]], "and what is not there is noticed"


RAW = re.compile(r"\b[a-z]+_[a-z0-9_]+\b|\barm\b|\d\.000\b")


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_raw_name_and_no_seed_with_decimals(browser, page_file, language):
    page = visit(browser, page_file)
    page.get_by_text(BUTTON[language], exact=True).click()
    page.locator("details").evaluate_all("all => all.forEach(e => e.open = true)")
    words = re.sub(r"logs/\S+", "", shown(page))
    assert RAW.findall(words) == []
    raw = ["arm", "loss_low", "distinct_2", "0.000"]
    assert RAW.findall("arm, loss_low, distinct_2, seed 0.000") == raw


def test_it_reads_in_order(browser, page_file):
    page = visit(browser, page_file)
    assert page.locator(".note:visible").text_content() == HOSTILE[1]
    targets = page.locator("nav a").evaluate_all(
        "all => all.map(a => document.querySelector(a.getAttribute('href')))"
    )
    assert len(targets) == 12
    assert None not in targets
    assert page.locator("h2:visible").all_inner_texts()[0] == "The question, and the answer"
    assert page.locator("h2:visible").all_inner_texts()[-1] == "All numbers"
    for svg in page.locator("svg").all():
        assert len(svg.get_attribute("aria-label")) > 30
    assert page.locator("details[open]").count() == 0, "raw tables are folded"


def test_tables_are_the_data(browser, page_file, material):
    page = visit(browser, page_file)
    page.locator(".raw > details").evaluate_all("all => all.forEach(e => e.open = true)")
    rows = page.locator(".raw table").nth(1).locator("tr")
    cells = [
        [cell.inner_text().replace("\u00a0", " ") for cell in row.locator("th, td").all()]
        for row in rows.all()
    ]
    assert len(cells) == 1 + len(material.arms)
    for row, arm in zip(cells[1:], material.arms.itertuples(), strict=True):
        said = dict(zip(cells[0], row, strict=True))
        assert said["model"] == arm.arm
        assert said["parameters"] == f"{arm.parameters:,}"
        assert said["validation loss (nats/character)"] == f"{arm.validation_loss:.3f}"
        assert said["perplexity"] == f"{arm.perplexity:.2f}"
        assert said["inference speed (characters/s)"] == f"{arm.generation_characters_per_s:.0f}"
    every = page.locator(".raw table").first.locator("tbody tr")
    assert "second half" not in page.locator("#ablation ~ .scroll").first.inner_text()
    choosing = replace(material, records=[chosen(r) for r in material.records])
    heads = [head.english for head in report_sheets.by_arm(choosing).heads]
    assert "second half of the held-out text (chose nothing)" in heads
    assert every.count() == material.curves.dropna(subset="validation_loss")["step"].nunique()
    assert page.locator("#curves ~ .scroll table").first.locator("tbody tr").count() >= 8
    every, some = (report_sheets.by_epoch(material, rows).rows for rows in (None, 5))
    assert len(some) == 5, "of a long run, a page shows some"
    assert (some[0], some[-1]) == (every[0], every[-1])


# --- each sentence follows its numbers ------------------------------------------------------------
def sentences(folder, material):
    """What the page says: (name, language) -> words."""
    page = report.write(folder, material, {}).read_text("utf-8")
    found = re.findall(r'<\w+ lang="([^"]+)" data-said="([^"]+)">(.*?)</\w+>\n', page, re.DOTALL)
    return {(name, language): words.replace("\u00a0", " ") for language, name, words in found}


def scaled(table, column, factor, row=-1):
    """The table with one number of it changed, the last or the one in this row."""
    changed = table.copy()
    changed.loc[table.index[row], column] *= factor
    return changed


def by(name, column, factor=1.5, row=-1):
    return lambda m: replace(m, **{name: scaled(getattr(m, name), column, factor, row)})


def without_verdicts(m):
    return replace(m, comparisons=[])


def other_verdict(m):
    worse = replace(m.comparisons[0], low=0.1, difference=0.2, high=0.3)
    return replace(m, comparisons=[worse, *m.comparisons[1:]])


def other_settings(m):
    first = m.records[0]
    changed = replace(first, model=first.model | {"n_heads": 64}, train=first.train | {"steps": 7})
    return replace(m, records=[changed, *m.records[1:]])


def placed(record):
    return replace(record, position_losses=[9.0])


def chosen(record):
    """The same run, as if each of its evaluations could have chosen the weights."""
    return replace(record, history=[row | {"choosing_loss": 1.0} for row in record.history])


def stopped(m):
    return replace(m, final=m.final.assign(steps=m.final["steps"] // m.final["n_layers"]))


def shorter_text(m):
    return replace(m, corpus=replace(m.corpus, text=m.corpus.text[:-50]))


def judged(column, factor=1.5):
    """A change of the last model's text under the last of the settings."""
    return by("texts", column, factor, row=-5)


def one_order(m, gap=10.0):
    """The deeper, the farther from people, by every count."""
    texts = m.texts.copy()
    last = quality.like(texts, quality.SETTINGS[-1])
    for i, arm in enumerate(m.arms["arm"]):
        rows = last.index[last["arm"] == arm]
        texts.loc[rows, list(report_text.COUNTS)] = 10 + gap * i
    return replace(m, texts=texts)


CHANGES = {  # a sentence -> changes of the numbers, each of which must change it
    "question": [lambda m: replace(m, arms=m.arms.iloc[:2]), stopped],
    "answer": [
        by("arms", "validation_loss", 0.5),
        by("arms", "perplexity", 0.9),
        by("arms", "parameters", 2),
        by("final", "characters_per_s"),
        by("final", "characters_per_s", math.nan, slice(None)),
        without_verdicts,
        other_verdict,
        lambda m: replace(m, baselines={"bigram": 0.5}),
    ],
    "method-1": [other_settings, shorter_text],
    "method-2": [
        lambda m: replace(m, records=[replace(m.records[0], regime="cuda"), *m.records[1:]]),
        other_settings,
        by("curves", "epoch"),
        by("final", "seed", 3),
    ],
    "method-3": [shorter_text, lambda m: replace(m, records=[placed(r) for r in m.records])],
    "curve": [
        by("curves", "validation_loss"),
        by("curves", "epoch"),
        by("arms", "training_loss", 3),
    ],
    "bars": [by("arms", "validation_loss"), by("arms", "perplexity")],
    "parameters": [by("arms", "parameters", 2), by("arms", "perplexity")],
    "samples": [lambda m: replace(m, texts=m.texts.assign(text="short", seed=9))],
    "coherence": [judged("five_gram_loss")],
    "diversity": [judged("distinct_2"), judged("repetition")],
    "plausibility": [judged("known_words"), judged("longest_copy", 2)],
    "quality": [lambda m: replace(m, texts=m.texts.iloc[:-1])],
    "told-apart": [one_order],
    "texts": [lambda m: replace(m, texts=m.texts.iloc[:-1])],
    "others": [lambda m: replace(m, others=[other_group()])],
    "training-time": [
        by("arms", "elapsed_s"),
        by("arms", "elapsed_s", math.nan),
        lambda m: replace(m, records=[replace(m.records[0], setup_s=99.0), *m.records[1:]]),
        by("final", "elapsed_s", math.nan),
        by("arms", "step_s"),
    ],
    "inference-speed": [
        by("arms", "generation_characters_per_s"),
        by("arms", "generation_high"),
    ],
    "memory": [
        by("arms", "model_mb"),
        by("arms", "training_mb"),
        by("final", "peak_memory_mb"),
        lambda m: replace(m, records=[replace(m.records[0], regime="cuda"), *m.records[1:]]),
    ],
    "limit-1": [lambda m: replace(m, arms=m.arms.assign(seeds=1))],
    "limit-2": [lambda m: replace(m, records=[chosen(r) for r in m.records])],
    "limit-3": [by("curves", "epoch")],
    "limit-4": [lambda m: replace(m, corpus=replace(m.corpus, name="another"))],
    "limit-5": [lambda m: replace(m, texts=m.texts.assign(text="short"))],
}
# What an n-gram model is, and that times are this machine's, need no number.
FIXED = {"method-4", "limit-6"}


def test_each_sentence_changes_with_its_numbers(material, tmp_path):
    before = sentences(tmp_path, material)
    assert sentences(tmp_path, material) == before
    assert {name for name, _ in before} == CHANGES.keys() | FIXED
    for name, changes in CHANGES.items():
        for number, change in enumerate(changes):
            after = sentences(tmp_path, change(material))
            for language in ("en", "zh-Hans"):
                key = (name, language)
                assert after[key] != before[key], f"{name}, change {number}, {language}"


def test_the_sentences_say_what_the_numbers_say(material, tmp_path):
    said = sentences(tmp_path, material)
    best = material.arms.loc[material.arms["validation_loss"].idxmin()]
    assert f"is that of {best.arm}: {best.validation_loss:.3f}" in said["answer", "en"]
    assert f"{best.validation_loss:.3f} 奈特/字符" in said["answer", "zh-Hans"]
    for comparison in material.comparisons:
        assert comparison.verdict.replace("-", "−") in said["answer", "en"]
        interval = f"{comparison.low:+.3f} 至 {comparison.high:+.3f}".replace("-", "−")
        assert interval in said["answer", "zh-Hans"]
    for arm in material.arms.itertuples():
        minutes, seconds = divmod(round(arm.elapsed_s), 60)
        assert f"{arm.arm} {minutes} min {seconds} s" in said["training-time", "en"]
        assert f"{minutes} 分 {seconds} 秒" in said["training-time", "zh-Hans"]
        assert f"{arm.arm} {arm.generation_characters_per_s:.0f}" in said["inference-speed", "en"]
        assert f"{arm.arm} {arm.model_mb} MB" in said["memory", "en"]


def test_a_published_comparison_is_held_up_by_its_mean(material, tmp_path):
    found = recorded.load("depth")
    losses = [r.validation_loss for r in found if r.arm == "6 layers"]
    corpus = replace(material.corpus, sha256=found[0].corpus["sha256"])
    said = sentences(tmp_path, replace(material, corpus=corpus, baselines={"5-gram": 1.5}))
    mean = f"{np.mean(losses):.3f}"
    assert f"reach {mean}, the mean of {len(losses)} seeds" in said["answer", "en"]
    assert f"达到 {mean}（{len(losses)} 个种子的均值）" in said["answer", "zh-Hans"]
    assert f"{min(losses):.3f}" not in said["answer", "en"], "no seed is picked"


def test_the_price_of_a_step_is_the_runs_own(material, tmp_path):
    """The steps timed beside them only say whether the machine was busy."""
    device, threads = "cpu (x86_64)", material.records[-1].environment["threads"]
    arms = material.arms.assign(generation_device=device, generation_threads=threads)
    alike = material.final["device"] == device
    speeds = material.final[alike].groupby("arm", sort=False)["characters_per_s"]
    size = material.train.batch_size * material.model.context_length
    own = [size * (1 / of).mean() for _, of in speeds]
    for slower, busy in ((1.3, False), (1.4, True)):
        timed = [own[0], own[1], slower * own[2]]
        said = sentences(tmp_path, replace(material, arms=arms.assign(step_s=timed)))
        ratio = own[-1] / own[0]
        assert f"takes {ratio:.1f} times as long on {device}." in said["answer", "en"]
        assert ("was busy" in said["training-time", "en"]) == busy
        assert ("机器正忙" in said["training-time", "zh-Hans"]) == busy


def test_validated_once_has_no_curve_but_training_losses(material, tmp_path):
    found = material.records
    curves = experiment.by_epoch(tables.curves(found), material.corpus)  # as they were published
    once = replace(material, curves=curves)
    said, before = (sentences(tmp_path, m)["curve", "en"] for m in (once, material))
    assert "validated once, at the end" in said
    assert "validated once, at the end" not in before
    rows = report_sheets.by_epoch(once, 10).rows
    assert len(rows) == 10
    for row, reached in ((rows[4], "–"), (rows[-1], f"{material.arms['validation_loss'][0]:.3f}")):
        assert re.fullmatch(r"\d\.\d{3}", row[2])
        assert row[3] == reached


def test_what_cannot_be_measured_is_a_dash(material, tmp_path):
    nothing = dict.fromkeys(("known_words", "distinct_2", "five_gram_loss"), math.nan)
    silent = replace(material, texts=material.texts.assign(**nothing))
    said = sentences(tmp_path, silent)
    for name in ("coherence", "diversity", "plausibility"):
        assert "It can&#39;t be measured on this text." in said[name, "en"]
        assert "nan" not in said[name, "en"] + said[name, "zh-Hans"]


def test_only_shakespeares_text_is_called_his(material, tmp_path):
    corpus = replace(material.corpus, sha256=recorded.load("depth")[0].corpus["sha256"])
    for of, his in ((corpus, True), (material.corpus, False)):
        said = sentences(tmp_path, replace(material, corpus=of))
        for name in ("quality", "coherence", "diversity", "plausibility", "texts"):
            assert ("莎士比亚原文" in said[name, "zh-Hans"]) == his
            assert "原文" in said[name, "zh-Hans"]


def test_models_are_held_against_people_and_not_ranked(material, tmp_path):
    texts = material.texts
    six = (texts["arm"] == "6 layers") & (texts["temperature"] == 0.8) & texts["top_k"].notna()
    m = replace(material, texts=texts.assign(known_words=texts["known_words"].mask(six, 0.91)))
    said = sentences(tmp_path, m)["plausibility", "en"]
    assert "span 90.0 % to 93.3 %; within it 6 layers; below it 2 layers and 4 layers." in said


def test_counts_that_disagree_or_hardly_differ_tell_no_depths_apart(material, tmp_path):
    apart = one_order(material)
    said = sentences(tmp_path, apart)["told-apart", "en"]
    assert "first: 2 layers, 4 layers and 6 layers; by 4 of 4" in said
    last = quality.like(apart.texts, quality.SETTINGS[-1])
    shallow = last.index[last["arm"] == "2 layers"]
    apart.texts.loc[shallow, "known_words"] = 99.0
    for m, why in (
        (replace(apart), "order differs"),
        (one_order(material, 1e-6), "by none of them"),
    ):
        said = sentences(tmp_path, m)
        assert "the depths can&#39;t be told apart" in said["told-apart", "en"]
        assert why in said["told-apart", "en"]
        assert "按这些计数无法区分各深度" in said["told-apart", "zh-Hans"]


def test_what_is_open_is_called_so_and_has_no_headline(material, tmp_path):
    close = replace(material.comparisons[-1], low=-0.051, high=0.004)
    n = close.enough_seeds()
    low, _, high, _ = comparisons.t_test(as_far_apart(close, n - 1))
    assert low < 0 < high, "one seed less is not enough"
    assert comparisons.t_test(as_far_apart(close, n))[2] < 0
    unsettled = replace(material, comparisons=[close])
    said = sentences(tmp_path, unsettled)
    by = f"{abs(close.difference):.3f} nats/character than that of 4 layers, which isn't settled"
    assert f"The loss of 6 layers is lower by {by}" in html.unescape(said["answer", "en"])
    assert "（95% 置信区间 −0.051 至 +0.004，3 对种子）" in said["answer", "zh-Hans"]
    assert f"{n} seeds in all, fixed beforehand" in said["answer", "en"]
    assert f"事先定好总共用 {n} 个种子" in said["answer", "zh-Hans"]
    for title in report_text.titles(unsettled).values():
        assert "layers" not in title.english, "no headline names a winner"


def as_far_apart(comparison, n):
    """So many differences, of its mean and its standard deviation."""
    reach = (comparison.high - comparison.low) / 2
    spread = reach * math.sqrt(comparison.pairs) / stats.t.ppf(0.975, comparison.pairs - 1)
    values = np.linspace(-1, 1, n)
    return list(comparison.difference + spread * values / values.std(ddof=1))


def other_group():
    """The runs of another study that lie in a folder too."""
    arms = "unchanged", "no positions", "learned positions"
    found = [r for r in recorded.load("choices-modern") if r.arm in arms]
    return groups.of_folder(found)[0]


def test_other_ablations_come_in_with_their_differences(browser, material, tmp_path):
    group = other_group()
    page = visit(browser, report.write(tmp_path, replace(material, others=[group]), {}))
    rows = page.locator("#others ~ .scroll table").first.locator("tbody tr").all_inner_texts()
    assert len(rows) == len(group.arms)
    table = tables.final_table(group.records).pivot(
        index="seed", columns="arm", values="validation_loss"
    )
    apart = table["no positions"] - table["unchanged"]
    row = next(row for row in rows if row.startswith("no positions"))
    first = group.arms["unchanged"][0]
    made = f"{first.model['n_layers']} layers, context {first.model['context_length']:,}"
    assert page.get_by_text(made).count() == 1
    written = report_sheets.study_table([group]).set_index("arm")["difference"]
    assert written["no positions"] == pytest.approx(apart.mean())
    assert f"{table['no positions'].mean():.3f}" in row
    assert f"{apart.mean():+.3f}" in row
    assert (
        next(row for row in rows if row.startswith("the settings above")).split("\t")[-2:]
        == ["–"] * 2
    )


def test_titles_say_what_was_found(material):
    before = report_text.titles(material)
    for name, change in {
        "curve": by("arms", "validation_loss"),
        "bars": by("arms", "validation_loss", 0.9),
        "parameters": by("arms", "perplexity"),
    }.items():
        after = report_text.titles(change(material))
        assert after[name].english != before[name].english
        assert after[name].chinese != before[name].chinese
    for language, said in zip(LANGUAGES, before["bars"], strict=True):
        drawn = experiment.draw(material)[
            experiment.figure_file("layer_ablation_comparison", language)
        ]
        assert drawn.get_suptitle().replace("\n", " ") == said


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_can_be_read_by_all(browser, page_file, language):
    page = visit(browser, page_file)
    page.get_by_text(BUTTON[language], exact=True).click()
    assert barriers(page) == []
    assert pale_words(page) == []


def test_on_paper_nothing_is_cut(browser, page_file):
    page = visit(browser, page_file, width=794)
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 794
    assert page.locator("nav:visible, label:visible, .raw:visible, #others:visible").count() == 0
    for svg in page.locator(".picture:visible svg").all():
        assert svg.bounding_box()["height"] <= 0.4 * 1123
    cut = "all => all.filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert page.locator("pre:visible, .scroll:visible").evaluate_all(cut) == 0
    page.locator("pre:visible").first.evaluate("e => e.style.whiteSpace = 'pre'")
    page.locator("pre:visible").first.evaluate("e => e.textContent = 'x'.repeat(400)")
    assert page.locator("pre:visible").evaluate_all(cut) == 1


def test_one_seed_makes_no_interval_and_no_mean(material, tmp_path):
    """A report must not explain what it doesn't draw."""
    interval = re.compile("95|intervals|mean over|均值")
    lone = {"seeds": 1, "loss_low": math.nan, "loss_high": math.nan}
    drawn = {"several": material, "one": replace(material, arms=material.arms.assign(**lone))}
    for seeds, m in drawn.items():
        said = sentences(tmp_path, replace(m, comparisons=[]))
        words = [said[name, "en"] + said[name, "zh-Hans"] for name in ("bars", "limit-1")]
        words.append(said["training-time", "en"])
        bars = experiment.draw(m)[experiment.figure_file("layer_ablation_comparison", "english")]
        words.append(bars.axes[0].get_xlabel())
        assert [bool(interval.search(one)) for one in words] == [seeds == "several"] * 4
