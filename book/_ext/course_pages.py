"""A text by the recorded model, written while a page is built.

`python book/_ext/course_pages.py` puts the recorded result's figure and such a text into both
READMEs.
"""

import re
from pathlib import Path

import torch
from course_playground import models
from course_study import yardstick
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from course_utils import corpus, figures, files
from course_utils.generation import writer
from course_utils.messages import _
from course_utils.messages.names import translated
from course_utils.research import recorded, tables
from course_utils.training import checkpoints

CHECKOUT = Path(__file__).resolve().parents[2]
PROMPT = "ROMEO:\n"
SETTINGS = {"temperature": 0.8}
STUDY = "course_utils/published/study"
README = {  # the sentences on the figure and on the sample
    "README.md": (
        "Lower is better: the loss says how badly a model guesses the next character of text that "
        "it has never read. All were trained in the same plain\nway, several times each, on {}, "
        f"and [every run's record]({STUDY}) comes with the course.",
        "Its model with six layers goes on from `ROMEO:`, as it came (temperature 0.8, seed 0):",
    ),
    "README.zh.md": (
        "损失越低越好：它衡量模型猜测从未读过的文本的下一个字符时错得有多厉害。"
        "损失在整个验证集上计算，对所有随机种子取平均；"
        f"每次运行的[记录]({STUDY})都随课程提供，设备是 {{}}。",
        "六层的模型接着 `ROMEO:` 往下写，未经挑选（种子 0，温度 0.8）：",
    ),
}


def deepest():
    """The record of the deepest published model."""
    return models(files.PUBLISHED)[-1]


def sample(length=300):
    """What the deepest published model writes after PROMPT, seed 0."""
    model, tokenizer = checkpoints.load_model(deepest().checkpoint)
    chance = torch.Generator().manual_seed(0)
    prompt = torch.tensor([tokenizer.encode(PROMPT)])
    ids = writer.generate(model, prompt, length, generator=chance, **SETTINGS)
    return tokenizer.decode(ids[0].tolist()).rsplit("\n", 1)[0]


class Sample(SphinxDirective):
    """`{sample}`: a text by the deepest published model, and a line on where it is from."""

    def run(self):
        self.env.note_reread()  # by the next build there may be another model
        record = deepest()
        text = sample()
        about = _(
            "Written while this page was built, by the recorded model with {arm} ({parameters:,} "
            "parameters, {loss:.3f} nats/character), seed 0, temperature {temperature}.",
            arm=translated(record.arm),
            parameters=record.parameters,
            loss=record.validation_loss,
            temperature=SETTINGS["temperature"],
        )
        block = nodes.literal_block(text, text, language="text", classes=["sample"])
        return [block, nodes.paragraph("", about)]


def depth_runs():
    """The recorded runs of the depth study, by the plain protocol."""
    rows = recorded.rows(corpus.load())
    return [r for name, row in rows.items() if name.startswith("depth/baseline/") for r in row]


def fill(text, passage, content):
    """The text with what stands between <!-- passage --> and <!-- end --> made anew."""
    pattern = rf"(<!-- {passage} -->\n).*?(<!-- end -->)"
    filled, count = re.subn(
        pattern, lambda found: f"{found[1]}{content}\n{found[2]}", text, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(
            f"<!-- {passage} --> … <!-- end --> must stand there once, not {count} times"
        )
    return filled


def write_readmes():
    """The result's figure and a sample, from the published records and weights."""
    found = depth_runs()
    final = tables.final_table(found)
    arms = tables.arm_table(final)
    best_counter = yardstick()
    (line,) = best_counter.values()
    below = (arms["validation_loss"] < line).sum()
    titles = {
        "english": f"{below} of {len(arms)} depths predict better than the best counter",
        "chinese": f"{len(arms)} 种深度中有 {below} 种优于最好的统计模型",
    }
    devices = ", ".join(sorted({record.environment["device"] for record in found}))
    text = sample(length=130)
    for name, (study, about) in README.items():
        path = CHECKOUT / name
        language = "chinese" if ".zh" in name else "english"
        filled = fill(path.read_text(encoding="utf-8"), "result", study.format(devices))
        filled = fill(filled, "sample", f"{about}\n\n```text\n{text.rstrip()}\n```")
        path.write_text(filled, encoding="utf-8")
        figure = figures.ablation_bars(arms, final, best_counter, language, title=titles[language])
        (CHECKOUT / f"book/_static/result_{language}.png").write_bytes(figure.png())


def setup(app):
    app.add_directive("sample", Sample)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    write_readmes()
