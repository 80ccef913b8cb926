"""How a report says what was done: the text, the models, their training, the measure, sources."""

from course_utils.lessons.data import split
from course_utils.research.report_words import (
    Said,
    epochs,
    joined,
    listed,
    loss,
    named,
)
from course_utils.training import trainer

POSITIONS = {
    "learned": Said("learned positions", "可学习的位置编码"),
    "sinusoidal": Said("sinusoidal positions", "正弦位置编码"),
    "rope": Said(
        "rotary positions (RoPE; Su et al., 2021)", "旋转位置编码（RoPE；Su et al., 2021）"
    ),
    "none": Said("no positions", "无位置编码"),
}
NORMS = {
    "layernorm": "LayerNorm (Ba et al., 2016)",
    "rmsnorm": "RMSNorm (Zhang & Sennrich, 2019)",
}
ACTIVATIONS = {
    "gelu": "GELU (Hendrycks & Gimpel, 2016)",
    "relu": "ReLU",
    "relu2": "ReLU² (So et al., 2021)",
    "swiglu": "SwiGLU (Shazeer, 2020)",
}


def method(m):
    """Its paragraphs: what is trained, how, and how it is measured."""
    return [
        joined(the_text(m), the_model(m)),
        joined(the_training(m), the_kept_weights(m)),
        joined(the_measure(m), by_place(m)),
        BASELINES,
    ]


def the_text(m):
    text = m.corpus.text
    train, held_out = map(len, split(text))
    source = " (Karpathy, 2015)" if m.corpus.is_real else ""
    return Said(
        f"The text is {m.corpus.name}{source}: {len(text):,} characters, {len(set(text)):,} of "
        f"them different. The models learn from the first {train:,}; the last {held_out:,} are "
        "held out.",
        f"文本是 {m.corpus.name}{wide(source)}：共 {len(text):,} 个字符，"
        f"其中 {len(set(text)):,} 种不同。"
        f"前 {train:,} 个用于训练，后 {held_out:,} 个留作验证。",
    )


def wide(words):
    """Brackets and stops as Chinese has them."""
    for narrow, chinese in ((" (", "（"), ("(", "（"), (")", "）"), ("; ", "；")):
        words = words.replace(narrow, chinese)
    return words


def the_model(m):
    c = m.model
    arms = listed([named(arm) for arm in m.arms["arm"]])
    norms = normalisation(c)
    positions = POSITIONS[c.position]
    embeddings = Said("separate input and output embeddings", "输入与输出嵌入各用一个矩阵")
    if c.tie_embeddings:
        embeddings = Said(
            "one matrix for the input and the output embedding (tied; Press & Wolf, 2017)",
            "输入与输出嵌入共用一个矩阵（Press & Wolf, 2017）",
        )
    return Said(
        "The models are decoder-only Transformers (Vaswani et al., 2017) that read up to "
        f"{c.context_length:,} characters and predict the next one; they have {arms.english}, and "
        f"all have width {c.d_model}, {c.n_heads} heads, feed-forward layers {c.d_ff:,} wide with "
        f"{ACTIVATIONS[c.activation]}, {norms.english}, {positions.english}, "
        f"{embeddings.english}, and dropout {c.dropout:g}.",
        "模型是仅含解码器的 Transformer（Vaswani et al., 2017），最多读 "
        f"{c.context_length:,} 个字符并预测下一个；深度分别为 {arms.chinese}，其余相同："
        f"宽度 {c.d_model}，{c.n_heads} 个头，前馈层宽 {c.d_ff:,}，激活函数为 "
        f"{wide(ACTIVATIONS[c.activation])}，{norms.chinese}，{positions.chinese}，"
        f"{embeddings.chinese}，dropout 为 {c.dropout:g}。",
    )


def normalisation(c):
    """Which, and where: of the residual stream, and of queries and keys."""
    norms = Said("no normalisation", "无归一化")
    if c.norm in NORMS:
        before = c.norm_placement == "pre"
        place = Said("before", "之前（pre-norm）") if before else Said("after", "之后（post-norm）")
        norms = Said(
            f"{NORMS[c.norm]} {place.english} each sublayer ({c.norm_placement}-norm)",
            f"{wide(NORMS[c.norm])}在各子层{place.chinese}",
        )
    if c.qk_norm:
        norms = Said(
            f"{norms.english}, queries and keys normalised (QK-norm; Henry et al., 2020)",
            f"{norms.chinese}，查询与键归一化（QK-norm；Henry et al., 2020）",
        )
    return norms


def the_training(m):
    c = m.train
    stops = Said("", "")
    if m.stopped_early:
        stops = Said(
            f", or until {c.patience} evaluations in a row bring nothing better",
            f"，连续 {c.patience} 次评估没有改进则提前停止",
        )
    return joined(
        Said(
            f"Each run makes {c.steps:,} steps{stops.english}. A step learns from {c.batch_size} "
            f"windows of {m.model.context_length:,} characters, drawn at random from the training "
            "text.",
            f"每次训练 {c.steps:,} 步{stops.chinese}。每步从训练文本中随机抽取 {c.batch_size} 个"
            f"长 {m.model.context_length:,} 个字符的窗口。",
        ),
        what_is_read(m),
        the_optimiser(m),
        the_regime(m),
        the_seeds(m),
    )


def what_is_read(m):
    """How much the longest run reads, and how much of the text that reaches."""
    reached = share_read(m)
    per_cent = f"{100 * reached:.0f}" if reached >= 0.1 else f"{100 * reached:.2g}"
    much = Said(f"about {per_cent} %", f"的约 {per_cent}%")
    if reached > 0.9995:
        much = Said("practically all", "几乎全部")
    return Said(
        f"The longest run reads {epochs(m.epochs)} times as many characters as the training text "
        "has; as many as it has once are called an epoch here. Windows overlap by chance, so that "
        f"{much.english} of that text is read at least once.",
        f"最长的一次训练所读的字符总数是训练文本的 {epochs(m.epochs)} 倍；"
        "本文把读满与训练文本等量的字符记作一轮。"
        f"随机窗口会重叠，训练文本{much.chinese} 至少被读到过一次。",
    )


def share_read(m):
    """The share of the training text to be expected in so many windows at random places."""
    length = len(split(m.corpus.text)[0])
    one = m.model.context_length / (length - m.model.context_length)
    windows = m.final["steps"].max() * m.train.batch_size
    return 1 - (1 - min(one, 1)) ** windows


def the_optimiser(m):
    c = m.train
    by = optimiser(c)
    rates = Said(f"a peak learning rate of {c.learning_rate:g}", f"峰值学习率 {c.learning_rate:g}")
    sources = "Loshchilov & Hutter, 2019"
    if c.optimizer == "muon":
        rates = Said(
            f"peak learning rates of {c.muon_learning_rate:g} and {c.learning_rate:g}",
            f"峰值学习率分别为 {c.muon_learning_rate:g} 与 {c.learning_rate:g}",
        )
        sources = f"Jordan et al., 2024; {sources}"
    if not c.warmup_steps and not c.decay:
        return of_optimiser(c, by, sources, constant(c))
    rises = Said("no warm-up", "无预热")
    if c.warmup_steps:
        rises = Said(f"{c.warmup_steps:,} steps of warm-up", f"预热 {c.warmup_steps:,} 步")
    falls = Said("constant from then on", "此后学习率不变")
    if c.decay:
        falls = Said(
            f"a rate that falls linearly to 0 over the last {100 * c.decay:g} % of the steps",
            f"最后 {100 * c.decay:g}% 的步数中学习率线性降到 0",
        )
    schedule = Said(
        f"{rates.english}, {rises.english}, {falls.english}",
        f"{rates.chinese}，{rises.chinese}，{falls.chinese}",
    )
    return of_optimiser(c, by, sources, schedule)


def optimiser(c):
    if c.optimizer == "muon":
        return Said(
            "Muon (the blocks' matrices) and AdamW (the rest)", "Muon（各层矩阵）与 AdamW（其余）"
        )
    return Said("AdamW", "AdamW")


def constant(c):
    """Of a schedule that neither rises nor falls, its rates."""
    if c.optimizer == "muon":
        return Said(
            f"constant learning rates of {c.muon_learning_rate:g} and {c.learning_rate:g}",
            f"学习率恒为 {c.muon_learning_rate:g} 与 {c.learning_rate:g}",
        )
    return Said(
        f"a constant learning rate of {c.learning_rate:g}", f"学习率恒为 {c.learning_rate:g}"
    )


def of_optimiser(c, by, sources, schedule):
    """Its sentence. by, schedule: Said; sources: who wrote of it"""
    return Said(
        f"The optimiser is {by.english} ({sources}), with {schedule.english}, weight decay "
        f"{c.weight_decay:g}, and gradients clipped to a norm of {c.clip_norm:g}; it runs in "
        "PyTorch (Paszke et al., 2019).",
        f"优化器为 {by.chinese}{wide(f'({sources})')}，{schedule.chinese}，"
        f"权重衰减 {c.weight_decay:g}，梯度范数裁剪到 {c.clip_norm:g}；"
        "用 PyTorch 实现（Paszke et al., 2019）。",
    )


REGIME = {  # the pieces of a record's regime
    "cpu": Said("on a CPU", "在 CPU 上"),
    "cuda": Said("on a GPU", "在 GPU 上"),
    "mps": Said("on a Mac's GPU", "在 Mac 的 GPU 上"),
    "fp32": Said("in fp32", "使用 fp32"),
    "bf16": Said("in bf16", "使用 bf16"),
    "compiled": Said("compiled", "经过编译"),
    "CUDA graph": Said("replayed as a CUDA graph", "以 CUDA 图重放"),
    "exact": Said("repeatable to the bit", "逐位可复现"),
}


def the_regime(m):
    """How the steps were made: in every way that a record holds."""
    ways = []
    for regime in dict.fromkeys(r.regime for r in m.records):
        pieces = [REGIME.get(piece, Said(piece, piece)) for piece in regime.split(", ")]
        ways.append(
            Said(
                ", ".join(piece.english for piece in pieces),
                "、".join(piece.chinese for piece in pieces),
            )
        )
    english = "; others ".join(way.english for way in ways)
    chinese = "；另有一些".join(way.chinese for way in ways)
    return Said(f"The steps ran {english}.", f"训练步的执行方式：{chinese}。")


def the_seeds(m):
    seeds = sorted(m.final["seed"].unique())
    if len(seeds) == 1:
        return Said(
            f"Every depth is trained once, with random seed {seeds[0]}; all read the same batches.",
            f"每种深度训练一次，随机种子为 {seeds[0]}；各深度读相同的批次。",
        )
    english = ", ".join(map(str, seeds))
    chinese = "、".join(map(str, seeds))
    return Said(
        f"Every depth is trained with {len(seeds)} random seeds ({english}); runs of one seed read "
        "the same batches.",
        f"每种深度用 {len(seeds)} 个随机种子（{chinese}），同一种子的各次训练读相同的批次。",
    )


def the_kept_weights(m):
    """Which weights of a run are measured."""
    if not m.chooses:
        return Said(
            "The weights of a run's last step are kept and measured.",
            "保留并测量每次训练最后一步的权重。",
        )
    return Said(
        "The loss on the first half of the held-out text, measured up to "
        f"{m.choices} times a run, chooses which weights are kept.",
        f"每次训练至多测量 {m.choices} 次留出文本前一半的损失，由它决定保留哪一步的权重。",
    )


def batches_meant(m):
    """Of how many batches a training loss is the mean, at most."""
    return -(-m.train.steps // trainer.REPORTS)


def the_measure(m):
    predictions = len(split(m.corpus.text)[1]) - 1
    batches = batches_meant(m)
    of = Said(
        f"the mean over the last batches before it, {batches:,} at most",
        f"此前最近若干批次的均值，至多 {batches:,} 批",
    )
    if batches == 1:
        of = Said("that of the last batch", "最近一个批次的损失")
    return Said(
        f"The validation loss is the mean over all {predictions:,} predictions of the held-out "
        f"text, read in windows of {m.model.context_length:,} characters that don't overlap, "
        "without dropout, in nats/character. Perplexity is its exponential: the model is as unsure "
        "as if it chose among that many equally likely characters. A training loss is "
        f"{of.english}.",
        f"验证损失是留出文本中全部 {predictions:,} 次预测的平均，"
        f"按互不重叠的 {m.model.context_length:,} 字符窗口读取，"
        "关闭 dropout，单位为奈特/字符。"
        "困惑度是它的指数：模型的不确定程度，相当于在这么多个等可能的字符中选一个。"
        f"训练损失是{of.chinese}。",
    )


def by_place(m):
    """What the best depth reaches where it has context, which n-grams always have."""
    of_best = [r.position_losses for r in m.records if r.arm == m.best["arm"]]
    if m.model.context_length < 2 or not all(of_best):
        return Said("", "")
    later = loss(sum(losses[-1] for losses in of_best) / len(of_best))
    first = 1 << ((m.model.context_length - 1).bit_length() - 1)
    best = named(m.best["arm"])
    return Said(
        "The first characters of a window have little before them, where an n-gram model has all "
        f"that it needs: past the first {first:,} characters of its windows the loss of "
        f"{best.english} is {later}.",
        "窗口开头的字符几乎没有上文，而 n 元语法模型始终有足够的上文："
        f"在窗口的前 {first:,} 个字符之后，{best.chinese} 的损失为 {later}。",
    )


BASELINES = Said(
    "The yardsticks are models that only count. An n-gram model counts in the training text what "
    "follows the n − 1 characters before (unigram: none, bigram: one, 5-gram: four), smoothed by "
    "the rule of Witten & Bell (1991); “Kneser–Ney” is a 7-gram at most, smoothed by the rule of "
    "Kneser & Ney (1995) as modified by Chen & Goodman (1999); uniform takes all characters to be "
    "equally likely.",
    "作对照的是只靠计数的模型。n 元语法模型从训练文本中统计前面 n − 1 个字符之后出现什么"
    "（一元不看前文，二元看一个，五元看四个），按 Witten & Bell (1991) 的方法平滑；"
    "“Kneser–Ney”至多为七元，按 Kneser & Ney (1995) 的方法平滑，采用 Chen & Goodman (1999) 的改进；"
    "均匀分布认为各字符等可能。",
)


# --- what it stands on ---------------------------------------------------------------------------
COURSE = "https://github.com/shakespeare-layer-by-layer/course"
SOURCES = {  # how a sentence names it -> what stands in the list
    "Ba et al., 2016": "Ba, J. L., Kiros, J. R., & Hinton, G. E. (2016). Layer normalization. "
    "arXiv:1607.06450",
    "Chen & Goodman (1999)": "Chen, S. F., & Goodman, J. (1999). An empirical study of smoothing "
    "techniques for language modeling. Computer Speech & Language 13(4). "
    "doi:10.1006/csla.1999.0128",
    "Fan et al., 2018": "Fan, A., Lewis, M., & Dauphin, Y. (2018). Hierarchical neural story "
    "generation. ACL. arXiv:1805.04833",
    "Hendrycks & Gimpel, 2016": "Hendrycks, D., & Gimpel, K. (2016). Gaussian error linear units "
    "(GELUs). arXiv:1606.08415",
    "Henry et al., 2020": "Henry, A., Dachapally, P. R., Pawar, S. S., & Chen, Y. (2020). "
    "Query-key normalization for Transformers. Findings of EMNLP. arXiv:2010.04245",
    "Holtzman et al., 2020": "Holtzman, A., Buys, J., Du, L., Forbes, M., & Choi, Y. (2020). The "
    "curious case of neural text degeneration. ICLR. arXiv:1904.09751",
    "Jordan et al., 2024": "Jordan, K., et al. (2024). Muon: an optimizer for hidden layers in "
    "neural networks. kellerjordan.github.io/posts/muon",
    "Karpathy, 2015": "Karpathy, A. (2015). char-rnn (the file Tiny Shakespeare). "
    "github.com/karpathy/char-rnn",
    "Kneser & Ney (1995)": "Kneser, R., & Ney, H. (1995). Improved backing-off for m-gram language "
    "modeling. ICASSP. doi:10.1109/ICASSP.1995.479394",
    "Li et al., 2016": "Li, J., et al. (2016). A diversity-promoting objective function for neural "
    "conversation models. NAACL-HLT. arXiv:1510.03055",
    "Loshchilov & Hutter, 2019": "Loshchilov, I., & Hutter, F. (2019). Decoupled weight decay "
    "regularization. ICLR. arXiv:1711.05101",
    "Paszke et al., 2019": "Paszke, A., et al. (2019). PyTorch: an imperative style, "
    "high-performance deep learning library. NeurIPS 32. arXiv:1912.01703",
    "Press & Wolf, 2017": "Press, O., & Wolf, L. (2017). Using the output embedding to improve "
    "language models. EACL. arXiv:1608.05859",
    "Shazeer, 2020": "Shazeer, N. (2020). GLU variants improve Transformer. arXiv:2002.05202",
    "So et al., 2021": "So, D. R., et al. (2021). Primer: searching for efficient Transformers for "
    "language modeling. NeurIPS 34. arXiv:2109.08668",
    "Su et al., 2021": "Su, J., et al. (2021). RoFormer: enhanced Transformer with rotary position "
    "embedding. arXiv:2104.09864",
    "Vaswani et al., 2017": "Vaswani, A., et al. (2017). Attention is all you need. NeurIPS 30. "
    "arXiv:1706.03762",
    "Witten & Bell (1991)": "Witten, I. H., & Bell, T. C. (1991). The zero-frequency problem. IEEE "
    "Transactions on Information Theory 37(4). doi:10.1109/18.87000",
    "Zhang & Sennrich, 2019": "Zhang, B., & Sennrich, R. (2019). Root mean square layer "
    "normalization. NeurIPS 32. arXiv:1910.07467",
}


def cited(sentences, version):
    """What these sentences name, in full, and the course. sentences: list of Said"""
    words = " ".join(said.english for said in sentences)
    course = f"Shakespeare, Layer by Layer (version {version}). {COURSE}"
    return [*(full for short, full in SOURCES.items() if short in words), course]
