"""The GPT, against a plain float64 version, torch's own layers, and Hugging Face's GPT-2
and Llama."""

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.lessons import model as lesson
from course_utils.lessons.model import (
    CHOICES,
    GPT,
    GPTConfig,
    count_parameters,
    position_angles,
    rotate,
    sinusoidal_positions,
)

B, H, T, D, V, L = 2, 3, 5, 4, 11, 2
TINY = GPTConfig(
    vocab_size=V, context_length=7, n_layers=L, n_heads=H, d_model=H * D, d_ff=17, dropout=0.0
)
TOKENS = torch.tensor([[1, 7, 7, 0, 10], [3, 2, 9, 4, 4]])
SWITCHES = [
    *CHOICES.items(),
    *((name, (True, False)) for name in ("tie_embeddings", "qk_norm", "residual")),
]
EVERY_VALUE = [{name: value} for name, values in SWITCHES for value in values]


def show(value):
    return ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else None


def loud(**changes):
    """A tiny float64 GPT whose weights, gains too, are large enough that each of them shows,
    and no more."""
    torch.manual_seed(0)
    model = GPT(replace(TINY, **changes)).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(
            parameter,
            mean=float(parameter.ndim == 1),
            std=0.1 if model.config.norm == "none" else 0.5,
        )
    return model


# --- every combination of switches against a version written a second time ------------------------
def plain_norm(x, norm, kind):
    if kind == "none":
        return x
    x = x - x.mean(-1, keepdim=True) if kind == "layernorm" else x
    return norm.weight * x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def plain_turn(x):
    """Each channel pair is a complex number; position t multiplies it by exp(i t speed)."""
    speeds = 1 / 10000 ** (torch.arange(D // 2, dtype=torch.float64) / (D // 2))
    z = torch.complex(*x.chunk(2, -1)) * torch.exp(
        1j * torch.outer(torch.arange(x.shape[1]), speeds)
    )
    return torch.cat([z.real, z.imag], -1)


def plain_attention(x, attention, config):
    heads = []
    for rows in range(0, config.d_model, D):
        q, k, v = (x @ w[rows : rows + D].T for w in attention.qkv.weight.chunk(3))
        if config.qk_norm:
            q, k = (y * math.sqrt(D) / y.norm(dim=-1, keepdim=True) for y in (q, k))
        if config.position == "rope":
            q, k = plain_turn(q), plain_turn(k)
        rows_out = []
        for t in range(x.shape[1]):
            shares = (torch.einsum("bd,bsd->bs", q[:, t], k[:, : t + 1]) / math.sqrt(D)).exp()
            rows_out.append(
                torch.einsum("bs,bsd->bd", shares / shares.sum(-1, keepdim=True), v[:, : t + 1])
            )
        heads.append(torch.stack(rows_out, 1))
    return torch.cat(heads, -1) @ attention.out.weight.T


def plain_feed_forward(x, layer, config):
    h = x @ layer.up.weight.T
    activate = {
        "gelu": lambda: h * (1 + torch.erf(h / math.sqrt(2))) / 2,
        "relu": lambda: h * (h > 0),
        "relu2": lambda: h * h * (h > 0),
        "swiglu": lambda: (
            h[..., : config.d_ff] / (1 + (-h[..., : config.d_ff]).exp()) * h[..., config.d_ff :]
        ),
    }[config.activation]
    return activate() @ layer.out.weight.T


def plain_logits(model, tokens):
    config, x = model.config, model.embedding.weight[tokens]
    if config.position == "learned":
        x = x + model.positions[: tokens.shape[1]]
    if config.position == "sinusoidal":
        x = config.d_model**0.5 * x + plain_sinusoids(tokens.shape[1], config.d_model)
    for block in model.blocks:
        for norm, layer in (
            (block.norm_1, lambda y, b=block: plain_attention(y, b.attention, config)),
            (block.norm_2, lambda y, b=block: plain_feed_forward(y, b.feed_forward, config)),
        ):
            pre = config.norm_placement == "pre"
            update = layer(plain_norm(x, norm, config.norm) if pre else x)
            x = x + update if config.residual else update
            x = x if pre else plain_norm(x, norm, config.norm)
    if config.norm_placement == "pre":
        x = plain_norm(x, model.norm, config.norm)
    return x @ (model.embedding if config.tie_embeddings else model.head).weight.T


def plain_sinusoids(length, width):
    rows = []
    for t in range(length):
        angles = [t / 10000 ** (2 * i / width) for i in range(width // 2)]
        rows.append([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("position", CHOICES["position"])
def test_every_combination_of_switches_equals_the_plain_version(position):
    others = [switch for switch in SWITCHES if switch[0] != "position"]
    for values in itertools.product(*(values for _, values in others)):
        changes = dict(zip((name for name, _ in others), values, strict=True))
        model = loud(position=position, **changes)
        with torch.no_grad():  # the lesson keeps its angles in float32, hence not 1e-10
            torch.testing.assert_close(
                model(TOKENS),
                plain_logits(model, TOKENS),
                rtol=1e-5,
                atol=1e-5,
                msg=lambda m, c=changes: f"{c}: {m}",
            )


# --- independent implementations with copied weights: logits and gradients ------------------------
def pairs(model, blocks, names, transposed=False):
    """(our parameter, theirs) for each block;
    Hugging Face's Conv1D keeps its matrices transposed."""
    for ours, theirs in zip(model.blocks, blocks, strict=True):
        for our_name, their_name in names.items():
            p, q = ours.get_parameter(our_name), theirs.get_parameter(their_name)
            yield p, q, transposed and p.ndim == 2


class TorchLayers(nn.Module):
    """torch's TransformerEncoderLayer, a stack of them under a causal mask."""

    def __init__(self, model):
        super().__init__()
        c = model.config
        self.embedding = copy.deepcopy(model.embedding)
        self.positions = copy.deepcopy(model.positions)
        sizes = (c.d_model, c.n_heads, c.d_ff, 0.0, c.activation, 1e-5, True)
        layer = nn.TransformerEncoderLayer(*sizes, c.norm_placement == "pre", bias=False)
        self.layers = nn.ModuleList(copy.deepcopy(layer).double() for _ in range(c.n_layers))
        self.norm = copy.deepcopy(model.norm)

    def forward(self, tokens):
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, dtype=torch.float64)
        x = self.embedding(tokens) + self.positions[:length]
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=True)
        return F.linear(self.norm(x), self.embedding.weight)


def torch_twin(model):
    twin = TorchLayers(model)
    names = {
        "attention.qkv.weight": "self_attn.in_proj_weight",
        "attention.out.weight": "self_attn.out_proj.weight",
        "feed_forward.up.weight": "linear1.weight",
        "feed_forward.out.weight": "linear2.weight",
        "norm_1.weight": "norm1.weight",
        "norm_2.weight": "norm2.weight",
    }
    ends = [
        (model.embedding.weight, twin.embedding.weight, False),
        (model.positions, twin.positions, False),
    ]
    ends += [
        (p, q, False) for p, q in zip(model.norm.parameters(), twin.norm.parameters(), strict=True)
    ]
    return twin, [*ends, *pairs(model, twin.layers, names)]


def gpt2_twin(model, activation="gelu"):
    from transformers import GPT2Config, GPT2LMHeadModel

    c = model.config
    sizes = {"n_positions": c.context_length, "n_embd": c.d_model, "n_layer": c.n_layers}
    sizes |= {"n_head": c.n_heads, "n_inner": c.d_ff, "vocab_size": c.vocab_size}
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), c.dropout)
    kinds = {"activation_function": activation, "attn_implementation": "eager"}
    config = GPT2Config(**sizes, **dropout, **kinds)
    twin = GPT2LMHeadModel(config).double()
    for name, parameter in twin.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    names = {
        "attention.qkv.weight": "attn.c_attn.weight",
        "attention.out.weight": "attn.c_proj.weight",
        "feed_forward.up.weight": "mlp.c_fc.weight",
        "feed_forward.out.weight": "mlp.c_proj.weight",
        "norm_1.weight": "ln_1.weight",
        "norm_2.weight": "ln_2.weight",
    }
    body = twin.transformer
    ends = [(model.embedding, body.wte), (model.norm, body.ln_f)]
    ends = [(p.weight, q.weight, False) for p, q in ends] + [
        (model.positions, body.wpe.weight, False)
    ]
    return twin, [*ends, *pairs(model, body.h, names, transposed=True)]


def llama_twin(model):
    """Rotary positions, RMSNorm, SwiGLU, an untied head. Llama splits what we keep
    in one matrix."""
    from transformers import LlamaConfig, LlamaForCausalLM

    c = model.config
    config = LlamaConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.d_model,
        intermediate_size=c.d_ff,
        num_hidden_layers=c.n_layers,
        num_attention_heads=c.n_heads,
        max_position_embeddings=c.context_length,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    twin = LlamaForCausalLM(config).double()
    body = twin.model
    names = {
        "attention.out.weight": "self_attn.o_proj.weight",
        "feed_forward.out.weight": "mlp.down_proj.weight",
        "norm_1.weight": "input_layernorm.weight",
        "norm_2.weight": "post_attention_layernorm.weight",
    }
    ends = [
        (model.embedding, body.embed_tokens),
        (model.norm, body.norm),
        (model.head, twin.lm_head),
    ]
    ends = [(p.weight, q.weight, False) for p, q in ends]
    split = []
    for ours, theirs in zip(model.blocks, body.layers, strict=True):
        attention, mlp = theirs.self_attn, theirs.mlp
        split += [
            (ours.attention.qkv.weight, [attention.q_proj, attention.k_proj, attention.v_proj])
        ]
        split += [(ours.feed_forward.up.weight, [mlp.gate_proj, mlp.up_proj])]
    return twin, [
        *ends,
        *pairs(model, body.layers, names),
        *((p, [m.weight for m in ms], False) for p, ms in split),
    ]


def check_agrees(model, make_twin, spoil=lambda model: None, **options):
    """Copy our weights into the twin, then compare logits and the gradient of every weight."""
    twin, matched = make_twin(model, **options)
    assert {id(p) for p, _, _ in matched} == {id(p) for p in model.parameters()}, (
        "every weight has its partner"
    )
    with torch.no_grad():
        for p, q, transposed in matched:
            for part, target in (
                zip(p.chunk(len(q)), q, strict=True) if isinstance(q, list) else [(p, q)]
            ):
                target.copy_(part.T if transposed else part)
        spoil(model)
    torch.manual_seed(1)
    ours = model(TOKENS)
    torch.manual_seed(1)
    theirs = twin.train()(TOKENS)
    theirs = getattr(theirs, "logits", theirs)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for logits in (ours, theirs):
        F.cross_entropy(logits.flatten(0, 1), TOKENS.roll(1, 1).flatten()).backward()
    for p, q, transposed in matched:
        grad = torch.cat([part.grad for part in q]) if isinstance(q, list) else q.grad
        torch.testing.assert_close(p.grad, grad.T if transposed else grad, rtol=1e-5, atol=1e-6)


LLAMA = {"position": "rope", "norm": "rmsnorm", "activation": "swiglu", "tie_embeddings": False}


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("placement", ["pre", "post"])
def test_agrees_with_torchs_own_layers(placement, activation):
    check_agrees(loud(norm_placement=placement, activation=activation), torch_twin)


def test_agrees_with_hugging_faces_gpt2():
    check_agrees(loud(), gpt2_twin)


def test_dropout_falls_where_gpt2s_does():
    """On the embeddings, on attention's weights, and on what each layer adds: one seed,
    the same noise."""
    check_agrees(loud(dropout=0.3).train(), gpt2_twin)


@pytest.mark.parametrize("place", ["embeddings", "attention weights", "a layer's update"])
def test_a_missing_dropout_is_noticed(monkeypatch, place):
    model = loud(dropout=0.3).train()
    if place == "embeddings":
        model.dropout = nn.Identity()
    elif place == "a layer's update":
        model.blocks[1].dropout = nn.Identity()
    else:
        real = lesson.causal_attention
        monkeypatch.setattr(lesson, "causal_attention", lambda q, k, v, dropout=0.0: real(q, k, v))
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        check_agrees(model, gpt2_twin)


def test_agrees_with_hugging_faces_llama():
    check_agrees(loud(**LLAMA), llama_twin)


@torch.no_grad()
def swap_two_heads_queries(model):
    weight = model.blocks[1].attention.qkv.weight
    weight[: 2 * D] = weight[: 2 * D].roll(D, dims=0)


@torch.no_grad()
def forget_a_gain(model):
    model.blocks[0].norm_2.weight.fill_(1.0)


@pytest.mark.parametrize("make_twin", [torch_twin, gpt2_twin])
@pytest.mark.parametrize("spoil", [swap_two_heads_queries, forget_a_gain])
def test_a_wrongly_copied_weight_is_noticed(make_twin, spoil):
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        check_agrees(loud(), make_twin, spoil)


def test_the_comparison_tells_exact_gelu_from_its_tanh_version():
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        check_agrees(loud(), gpt2_twin, activation="gelu_new")


def test_rotating_neighbours_instead_of_halves_is_noticed(monkeypatch):
    def neighbours(x, angles):
        a, b = x[..., ::2], x[..., 1::2]
        return torch.stack(
            [a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1
        ).flatten(-2)

    monkeypatch.setattr(lesson, "rotate", neighbours)
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        check_agrees(loud(**LLAMA), llama_twin)


# --- what every GPT must do, whatever its switches ------------------------------------------------
@torch.no_grad()
def check_is_causal(model):
    before = model(TOKENS)
    for t in range(T - 1):
        later = TOKENS.clone()
        later[:, t + 1 :] = (later[:, t + 1 :] + 1) % V
        after = model(later)
        torch.testing.assert_close(after[:, : t + 1], before[:, : t + 1])
        assert not torch.allclose(after[:, t + 1 :], before[:, t + 1 :])


@torch.no_grad()
def check_evaluation_repeats(model):
    model.eval()
    assert torch.equal(model(TOKENS), model(TOKENS))


@pytest.mark.parametrize("changes", EVERY_VALUE, ids=show)
def test_every_switch_is_causal_and_trains_every_weight(changes):
    model = loud(**changes)
    assert model(TOKENS).shape == (B, T, V)
    check_is_causal(model)
    tokens = torch.arange(2 * 7).view(2, 7) % V  # the whole context, so that each position is used
    F.cross_entropy(model(tokens).flatten(0, 1), tokens.roll(1, 1).flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, f"no gradient reaches {name}"
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize(
    "blocks_without_mask", [{0, 1}, {1}], ids=["no block", "after the first block"]
)
def test_a_missing_mask_is_noticed(monkeypatch, blocks_without_mask):
    calls = itertools.count()

    def attention(q, k, v, dropout=0.0):
        return F.scaled_dot_product_attention(
            q, k, v, is_causal=next(calls) % L not in blocks_without_mask
        )

    monkeypatch.setattr(lesson, "causal_attention", attention)
    with pytest.raises(AssertionError):
        check_is_causal(loud())


def test_dropout_is_off_in_evaluation_and_on_in_training():
    model = loud(dropout=0.5)
    check_evaluation_repeats(model)
    torch.testing.assert_close(model(TOKENS), loud()(TOKENS))
    model.train()
    assert not torch.equal(model(TOKENS), model(TOKENS))


def test_dropout_in_evaluation_is_noticed(monkeypatch):
    real = lesson.causal_attention
    monkeypatch.setattr(lesson, "causal_attention", lambda q, k, v, dropout=0.0: real(q, k, v, 0.5))
    with pytest.raises(AssertionError):
        check_evaluation_repeats(loud(dropout=0.5))


def test_one_seed_gives_one_model():
    one, same = (GPT(TINY) if torch.manual_seed(3) else None for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), same.parameters(), strict=True))


# --- sizes ----------------------------------------------------------------------------------------
def closed_form(c):
    """Embedding, positions, L blocks of 4 C² + 2 (or 3) C d_ff + 2 C, a last norm, a head."""
    C, gates = c.d_model, 3 if c.activation == "swiglu" else 2
    gains = 0 if c.norm == "none" else C
    block = 4 * C**2 + gates * C * c.d_ff + 2 * gains
    ends = c.vocab_size * C * (1 if c.tie_embeddings else 2) + gains * (c.norm_placement == "pre")
    return ends + c.n_layers * block + C * c.context_length * (c.position == "learned")


NANOGPT = {"n_layers": 6, "d_model": 384, "n_heads": 6, "d_ff": 1536, "dropout": 0.2}


@pytest.mark.parametrize(
    ("changes", "millions"),
    [
        ({"n_layers": 2}, 1.66),
        ({"n_layers": 4}, 3.23),
        ({}, 4.80),
        (NANOGPT, 10.75),
    ],
    ids=show,
)
def test_presets_have_the_sizes_they_are_known_by(changes, millions):
    config = GPTConfig(**changes)
    with torch.device("meta"):
        model = GPT(config)
        assert model(torch.zeros(B, T, dtype=torch.int64)).shape == (B, T, 65)
    assert count_parameters(model) == closed_form(config)
    assert round(count_parameters(model) / 1e6, 2) == millions


@pytest.mark.parametrize("changes", EVERY_VALUE, ids=show)
def test_closed_form_holds_for_every_switch(changes):
    model = GPT(replace(TINY, **changes))
    assert count_parameters(model) == closed_form(model.config)


def test_tied_means_one_and_the_same_matrix():
    tied, free = GPT(TINY), GPT(replace(TINY, tie_embeddings=False))
    assert tied.head.weight is tied.embedding.weight
    assert free.head.weight is not free.embedding.weight


# --- the start ------------------------------------------------------------------------------------
@pytest.mark.parametrize("n_layers", [2, 4, 6])
def test_an_untrained_model_knows_nothing(n_layers):
    """The first loss is near ln V, the loss of a model to which all characters are alike."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layers=n_layers)).eval()
    tokens, targets = torch.randint(65, (2, 2, 64))
    with torch.no_grad():
        loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
    assert loss.item() == pytest.approx(math.log(65), abs=0.1)


def check_initial_weights(model):
    """GPT-2's: standard deviation 0.02, and 0.02 / √(2L) where a layer writes to the stream;
    blocks differ."""
    layers = model.config.n_layers
    for name, p in model.named_parameters():
        if p.ndim == 1:
            assert (p == 1).all()
        else:
            expected = 0.02 / math.sqrt(2 * layers) if name.endswith("out.weight") else 0.02
            assert p.std().item() == pytest.approx(expected, rel=0.05), name
    for first, second in itertools.combinations(model.blocks, 2):
        for p, q in zip(first.parameters(), second.parameters(), strict=True):
            assert p.ndim == 1 or not torch.equal(p, q), (
                "every block begins with numbers of its own"
            )


def test_initial_weights():
    torch.manual_seed(0)
    check_initial_weights(GPT(GPTConfig(n_layers=3, d_model=64, d_ff=256)))


@pytest.mark.parametrize(
    "fault", ["every block from one key", "torch's default", "output not scaled"]
)
def test_a_wrong_start_is_noticed(fault):
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layers=3, d_model=64, d_ff=256))
    if fault == "every block from one key":
        model.blocks[2] = copy.deepcopy(model.blocks[0])
    elif fault == "torch's default":
        model.blocks[1].attention.qkv.reset_parameters()
    else:
        nn.init.normal_(model.blocks[1].feed_forward.out.weight, std=0.02)
    with pytest.raises(AssertionError):
        check_initial_weights(model)


def test_one_batch_can_be_learned_by_heart():
    torch.manual_seed(0)
    model = GPT(TINY)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    targets = TOKENS.roll(2, 1)
    for _ in range(100):
        loss = F.cross_entropy(model(TOKENS).flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.05
    assert torch.equal(model(TOKENS).argmax(-1), targets)


# --- positions ------------------------------------------------------------------------------------
@pytest.mark.parametrize("width", [2, 4, 10])
def test_sinusoidal_positions_follow_the_formula(width):
    torch.testing.assert_close(
        sinusoidal_positions(50, width).double(), plain_sinusoids(50, width), rtol=0, atol=1e-5
    )


def check_scores_depend_on_distance_alone(rotate):
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64).expand(
        2, B, H, 13, 8
    )  # the same at all 13 positions
    angles = position_angles(13, 8)
    turned = rotate(q, angles)
    torch.testing.assert_close(turned.norm(dim=-1), q.norm(dim=-1), rtol=1e-6, atol=0)
    torch.testing.assert_close(turned[..., 0, :], q[..., 0, :])
    scores = (turned @ rotate(k, angles).mT)[0, 0]
    for distance in range(-12, 13):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)
    assert scores[0].std() > 0.1, "and they do depend on it"


def turn_with_a_sign_wrong(x, angles):
    a, b = x.chunk(2, -1)
    return torch.cat([a * angles.cos() + b * angles.sin(), a * angles.sin() + b * angles.cos()], -1)


def add_instead_of_turning(x, angles):
    return x + torch.cat([angles.sin(), angles.cos() - 1], -1)


def test_rotary_scores_depend_on_distance_alone():
    check_scores_depend_on_distance_alone(rotate)


@pytest.mark.parametrize(
    "mutant", [turn_with_a_sign_wrong, add_instead_of_turning, lambda x, angles: x]
)
def test_broken_rotations_are_noticed(mutant):
    with pytest.raises(AssertionError):
        check_scores_depend_on_distance_alone(mutant)


def test_qk_norm_makes_scores_cosines(monkeypatch):
    """With q and k scaled to root mean square 1, a score q · k / √D is √D times their cosine."""
    seen = []
    attention = loud(qk_norm=True).blocks[0].attention
    x = torch.randn(B, T, H * D, dtype=torch.float64)
    monkeypatch.setattr(
        lesson, "causal_attention", lambda q, k, v, dropout=0.0: seen.extend((q, k)) or v
    )
    attention(x)
    raw_q, raw_k, _ = (
        y.unflatten(-1, (H, D)).transpose(1, 2) for y in attention.qkv(x).chunk(3, -1)
    )
    cosines = F.cosine_similarity(raw_q[:, :, :, None], raw_k[:, :, None], dim=-1)
    q, k = seen
    torch.testing.assert_close(q @ k.mT / math.sqrt(D), math.sqrt(D) * cosines)


# --- bad input ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"position": "alibi"}, "position must be one of learned, sinusoidal, rope, none"),
        ({"norm": "batchnorm"}, "norm must be one of layernorm, rmsnorm, none"),
        ({"norm_placement": "sandwich"}, "norm_placement must be one of pre, post"),
        ({"activation": "tanh"}, "activation must be one of gelu, relu, relu2, swiglu"),
        ({"vocab_size": 0}, "vocab_size must be a whole number of at least 1"),
        ({"context_length": -1}, "context_length must be a whole number"),
        ({"n_layers": 1.5}, "n_layers must be a whole number"),
        ({"n_heads": 0}, "n_heads must be a whole number"),
        ({"d_model": "256"}, "d_model must be a whole number"),
        ({"d_ff": None}, "d_ff must be a whole number"),
        ({"n_heads": 5}, "multiple of n_heads"),
        ({"n_heads": 4, "d_model": 12, "position": "rope"}, "even"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"dropout": -0.1}, "dropout must lie in"),
        ({"dropout": float("nan")}, "dropout must lie in"),
    ],
    ids=show,
)
def test_a_bad_setting_is_refused_in_one_sentence(changes, words):
    with pytest.raises(ValueError, match=words) as refusal:
        GPTConfig(**changes)
    assert "\n" not in str(refusal.value)


def test_an_input_longer_than_the_context_is_refused():
    model = GPT(TINY)
    assert model(torch.zeros(1, 7, dtype=torch.int64)).shape == (1, 7, V), (
        "the whole context still fits"
    )
    with pytest.raises(ValueError, match=r"8 tokens .* context length.* 7"):
        model(torch.zeros(1, 8, dtype=torch.int64))


@pytest.mark.parametrize("spoilt", [False, True])
def test_exercise_37_asks_for_hugging_faces_gpt2_block(spoilt):
    """The published names and layout of its tensors: they load as they are, and give the same."""
    from transformers import GPT2Config, GPT2Model

    from course_utils.checks.model import by_pytorch, draw_block

    weights = draw_block(H * D, 17, salt=1)
    sizes = {"n_embd": H * D, "n_head": H, "n_inner": 17, "n_layer": 1, "n_positions": T}
    theirs = GPT2Model(GPT2Config(vocab_size=V, **sizes)).eval()
    theirs.h[0].load_state_dict(weights)
    theirs.ln_f = nn.Identity()
    nn.init.zeros_(theirs.wpe.weight)
    if spoilt:
        weights["mlp.c_proj.bias"][0] += 0.01
    x = torch.randn(B, T, H * D, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(inputs_embeds=x).last_hidden_state
    same = torch.allclose(by_pytorch(x, weights, H), expected, atol=1e-5)
    assert same is not spoilt
