"""The one kernel that writes: what it is given against the layout that tensor cores ask for, and,
where there is a GPU for it, its logits and draws against the model's and PyTorch's."""

import itertools
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

import helpers
from course_utils.generation import kernel, writer
from course_utils.generation.decoder import Decoder
from course_utils.lessons.model import GPT, GPTConfig
from course_utils.lessons.sampling import draw, filter_logits
from helpers import seeded

on_hopper = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] < 9,
    reason="needs an NVIDIA GPU of compute capability 9.0",
)
BASELINE = GPTConfig(n_layers=2)
loud = partial(helpers.loud, BASELINE)


def tile_of(lanes):
    """The 16 x 16 matrix that a warp's lanes hold, each 8 numbers: NVIDIA's PTX ISA 9.0, figure of
    the fragment A of mma.m16n8k16."""
    tile = torch.zeros(16, 16)
    for lane, i in itertools.product(range(32), range(8)):
        row = lane // 4 + (8 if i in (2, 3, 6, 7) else 0)
        column = lane % 4 * 2 + i % 2 + (8 if i >= 4 else 0)
        tile[row, column] = lanes.reshape(32, 8)[lane, i]
    return tile


def columns(vector):
    """32 numbers as two tiles of weights meet them: a lane's column has 8 neighbours, 4 a tile."""
    cut = vector.view(4, 2, 2, 2)  # column of lanes, tile, half, which of two
    return cut.permute(1, 2, 0, 3).reshape(2, 16)


@pytest.mark.parametrize("shape", [(96, 256), (256, 128), (80, 256)])
def test_weights_are_packed_as_tensor_cores_read_them(shape):
    matrix = torch.randn(shape, generator=seeded()).bfloat16().float()
    vector = torch.randn(shape[1], generator=seeded(1))
    packed = kernel.packed(matrix).float()
    product = torch.zeros(shape[0] // 16, 16)
    for i, j in itertools.product(range(shape[0] // 16), range(shape[1] // 32)):
        parts = columns(vector[32 * j : 32 * j + 32])
        product[i] += sum(tile_of(packed[i, j, k]) @ parts[k] for k in range(2))
    torch.testing.assert_close(product.flatten(), matrix @ vector)


def test_keys_and_values_are_packed_as_tensor_cores_read_them():
    keys, query = torch.randn(1, 1, 48, 32, generator=seeded()).bfloat16().float(), torch.rand(32)
    packed = kernel.packed_keys(keys)[0, 0].float()
    parts = columns(query)
    scores = [sum(tile_of(tile[k]) @ parts[k] for k in range(2)) for tile in packed]
    torch.testing.assert_close(torch.cat(scores), keys[0, 0] @ query)

    packed = kernel.packed_values(keys)[0, 0].float()
    weights = torch.rand(48)
    order = [t + 4 * half + 8 * two for half in range(2) for t in range(4) for two in range(2)]
    seen = sum(
        torch.cat([tile_of(tile[k]) @ weights[16 * i : 16 * i + 16][order] for k in range(2)])
        for i, tile in enumerate(packed)
    )
    torch.testing.assert_close(seen, weights @ keys[0, 0])


def test_a_thread_computes_four_neighbours_of_the_stream():
    matrix = torch.arange(256.0)[:, None].expand(256, 256).contiguous()
    rows = kernel.for_sending(matrix)[0, :, 0].view(8, 2, 2, 8)  # warp, tile, half, lane's row
    assert torch.equal(rows.permute(0, 3, 1, 2).flatten(), torch.arange(256.0))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "needs an NVIDIA GPU"),
        ({"d_model": 128, "d_ff": 512}, "written for d_model = 256"),
        ({"norm": "rmsnorm"}, "written for norm = layernorm"),
        ({"position": "rope"}, "adds positions"),
        ({"context_length": 100}, "multiple of 16"),
        ({"vocab_size": 129}, "128 characters"),
    ],
)
def test_what_it_cannot_write_is_said_and_written_otherwise(changes, why):
    model = GPT(replace(BASELINE, **changes))
    assert why in kernel.why_not(model)
    assert type(writer.make_decoder(model, dtype=torch.bfloat16)) is Decoder


@pytest.mark.parametrize(
    ("n_layers", "characters", "near"),
    [(1, 65, True), (4, 65, True), (5, 65, False), (4, 66, False)],
)
def test_the_embedding_is_near_where_a_hopper_card_has_room(n_layers, characters, near):
    card = SimpleNamespace(shared_memory_per_block_optin=227 * 1024)
    config = replace(BASELINE, n_layers=n_layers, vocab_size=characters)
    *_, shared, is_near = kernel.sizes(config, card)
    assert is_near == near
    rows = 4 * characters * config.d_model
    assert shared == kernel.shared_bytes(config) + (rows if near else 0)
    assert shared <= card.shared_memory_per_block_optin


@on_hopper
@pytest.mark.parametrize(
    ("n_layers", "position", "characters"),
    [
        (1, "learned", 65),
        (1, "sinusoidal", 128),
        (4, "none", 65),  # the most whose embedding has room beside keys and values
        (6, "learned", 65),
        (6, "sinusoidal", 65),
        (5, "none", 128),
    ],
)
@torch.no_grad()
def test_its_logits_are_the_models(n_layers, position, characters):
    model = loud(n_layers=n_layers, position=position, vocab_size=characters).cuda().eval()
    tokens = torch.randint(characters, (1, 256), generator=seeded()).cuda()
    rounded = GPT(model.config).cuda().eval()
    rounded.load_state_dict({k: v.bfloat16().float() for k, v in model.state_dict().items()})
    expected, near = model(tokens)[0], rounded(tokens)[0]
    decoder = writer.make_decoder(model, dtype=torch.bfloat16)
    assert type(decoder) is kernel.KernelDecoder
    for begin in (1, 16, 17, 255):
        steps = [tokens[:, i : i + 1] for i in range(begin, 256)]
        logits = torch.cat([decoder.read(tokens[:, :begin]), *map(decoder.step, steps)])
        error = (logits - expected[begin - 1 :]).std()
        assert error < 3 * (near - expected).std()  # of about what rounding its weights does


@on_hopper
@pytest.mark.parametrize(
    "settings", [(1, None, None), (0.7, 5, None), (1.2, None, 0.9), (0, 3, 0.5), (0, None, None)]
)
def test_it_draws_what_pytorch_draws(settings):
    decoder = writer.make_decoder(loud().cuda().eval(), dtype=torch.bfloat16)
    mine, theirs = (torch.Generator("cuda").manual_seed(2**40 + 7) for _ in range(2))
    token = torch.zeros(1, 1, dtype=torch.int64, device="cuda")
    decoder.read(token)
    text = torch.cat([token, decoder.write(token, 200, *settings, mine)], dim=1)
    decoder.read(token)
    for i in range(200):
        logits = filter_logits(decoder.step(text[:, i : i + 1]), *settings)
        assert draw(logits, theirs).item() == text[0, i + 1].item()
    assert mine.get_offset() == theirs.get_offset()
    with pytest.raises(ValueError, match="begin again"):
        decoder.write(token, 100)
