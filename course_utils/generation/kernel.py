"""One text on an NVIDIA GPU by one kernel: kernel.cu, compiled when it is first needed.

A CUDA graph still is dozens of kernels a character, and each waits for the one before. Here one
kernel writes the rest of a window, draws included, with the luck that PyTorch's generator would
have had. Its weights, keys and values are bf16.
"""

import functools
import math
from pathlib import Path

import torch

from course_utils.generation.decoder import CudaDecoder
from course_utils.lessons.sampling import check_sampling
from course_utils.messages import _

HEADS = 8
BLOCKS = 2 * HEADS  # thread blocks that work together: one for each head, as many for the rest
WIDTH = 256
MOST_CHARACTERS = 128  # of a vocabulary
# Bytes of shared memory, at most, besides keys and values or weights, and for 32 characters more.
OTHERS = 27_904
OF_CHARACTERS = 2_304
MORE_THAN_EIGHT = 14  # CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
SHAPE = {
    "n_heads": HEADS,
    "d_model": WIDTH,
    "d_ff": 4 * WIDTH,
    "norm": "layernorm",
    "norm_placement": "pre",
    "activation": "gelu",
    "qk_norm": False,
    "residual": True,
}


def why_not(model):
    """Why the kernel can't write with this model where it lies, in a clause; "" where it can."""
    c = model.config
    for name, value in SHAPE.items():
        if getattr(c, name) != value:
            return _("it is written for {name} = {value}", name=name, value=value)
    if c.position == "rope":
        return _("it adds positions, and this model turns by them")
    if c.context_length % 16 or c.vocab_size > MOST_CHARACTERS:
        return _("it takes contexts of a multiple of 16, and {n} characters", n=MOST_CHARACTERS)
    if not model.head.weight.is_cuda:
        return _("it needs an NVIDIA GPU")
    card = torch.cuda.get_device_properties(model.head.weight.device)
    if card.major < 9:
        return _("blocks that share their memory came with compute capability 9.0 (Hopper)")
    if shared_bytes(c) > card.shared_memory_per_block_optin:
        return _("its keys and values don't fit in a multiprocessor's shared memory")
    try:
        compiled(*sizes(c, card))
    except (RuntimeError, OSError, AttributeError) as error:
        return _("it could not be compiled: {error}", error=str(error).splitlines()[0])
    return ""


def shared_bytes(config):
    """What a block takes: one head's keys and values, or its share of a feed-forward layer."""
    cache = config.n_layers * 2 * config.context_length * (WIDTH // HEADS)
    weights = 2 * 4 * WIDTH // HEADS * WIDTH
    others = OTHERS + OF_CHARACTERS * -(-config.vocab_size // 32)
    return 2 * max(cache, weights) + others


def sizes(config, card):
    """What the kernel is compiled for; the embedding comes near where the card has room for it.

    -> layers, context, vocabulary, bytes of shared memory, whether the embedding is in them
    """
    least = shared_bytes(config)
    with_embedding = least + 4 * config.vocab_size * WIDTH
    near = with_embedding <= card.shared_memory_per_block_optin
    shared = with_embedding if near else least
    return config.n_layers, config.context_length, config.vocab_size, shared, near


@functools.cache
def compiled(layers, context, vocabulary, shared, embedding_near):
    """The kernel for models of this size; NVRTC, which comes with PyTorch, takes seconds."""
    defined = {
        "LAYERS": layers,
        "CONTEXT": context,
        "VOCABULARY": vocabulary,
        "SHARED": shared,
        "EMBEDDING_NEAR": str(embedding_near).lower(),
    }
    lines = "".join(f"#define {name} {value}\n" for name, value in defined.items())
    source = Path(__file__).with_name("kernel.cu").read_text(encoding="utf-8")
    kernel = torch.cuda._compile_kernel(lines + source, "write")
    driver = torch.cuda._utils._get_gpu_runtime_library()
    torch.cuda._utils._check_cuda(driver.cuFuncSetAttribute(kernel.func, MORE_THAN_EIGHT, 1))
    kernel.set_shared_memory_config(shared)
    return kernel


class KernelDecoder(CudaDecoder):
    """A decoder for one text whose characters are written by one kernel."""

    def __init__(self, model):
        c = model.config
        # Before the graph that reads a prompt, which ends in it: keys and values as the kernel
        # wants them, of [head][keys, values].
        shape = (HEADS, 2, c.n_layers, c.context_length * WIDTH // HEADS)
        self.packed = torch.zeros(shape, dtype=torch.bfloat16, device=model.head.weight.device)
        super().__init__(model, dtype=torch.bfloat16)

        card = torch.cuda.get_device_properties(self.device)
        *dimensions, self.shared_bytes, near = sizes(c, card)
        self.kernel = compiled(*dimensions, self.shared_bytes, near)
        added = {"learned": model.positions, "sinusoidal": model.sinusoids}.get(c.position)
        if added is None:
            added = torch.zeros(c.context_length, WIDTH, device=self.device)
        self.constants = (
            *packed_model(model),
            (model.embedding.weight.detach() * model.scale).float().contiguous(),
            added.detach().float().contiguous(),
        )
        self.tokens = torch.zeros(c.context_length + 1, dtype=torch.int64, device=self.device)
        self.logits = torch.zeros(1, c.vocab_size, device=self.device)

    def _read(self, reach):
        super()._read(reach)
        keys, values = self.cache[:, :, 0].unbind(dim=1)
        self.packed[:, 0] = packed_keys(keys).flatten(2)
        self.packed[:, 1] = packed_values(values).flatten(2)

    @torch.inference_mode()
    def step(self, token):
        self._launch(token, 1)
        return self.logits.clone()

    def draw_next(self, token, temperature=1.0, top_k=None, top_p=None, generator=None):
        return self.write(token, 1, temperature, top_k, top_p, generator)

    @torch.inference_mode()
    def write(self, token, n, temperature=1.0, top_k=None, top_p=None, generator=None):
        check_sampling(temperature, top_k, top_p)
        if generator is None:
            generator = torch.cuda.default_generators[self.tokens.get_device()]
        offset = generator.get_offset()
        generator.set_offset(offset + 4 * n)  # what n draws of PyTorch's take from it
        luck = (generator.initial_seed(), offset // 4)
        self._launch(token, n, (temperature, top_k or 0, 1.0 if top_p is None else top_p), luck)
        return self.tokens[None, 1 : n + 1].clone()

    def _launch(self, token, n, sampling=(1.0, 0, 1.0), luck=(0, 0)):
        """Feed this token and n - 1 that are drawn; the last draw is fed by the next call."""
        if self.length + n > self.config.context_length:
            raise ValueError(f"the context has no room for {n} more tokens: begin again with read")
        temperature, top_k, top_p = sampling
        halves = [signed(half) for number in luck for half in (number, number >> 32)]
        self.tokens[:1].copy_(token[0])
        given = [*self.constants, self.packed, self.tokens, self.logits, self.length, n]
        self.kernel(
            grid=(BLOCKS, 1, 1),
            block=(WIDTH, 1, 1),
            args=[*given, float(temperature), int(top_k), float(top_p), *halves],
            shared_mem=self.shared_bytes,
        )
        self.length += n


def signed(number):
    """The lowest 32 bits as C's int has them."""
    number &= 0xFFFFFFFF
    return number - (number >> 31 << 32)


def packed_model(model):
    """Weights of attention and of feed-forward layers, [layer][block], of the head, and row sums.

    A norm's own weights are multiplied into the matrix behind it, the scale of attention into the
    queries, so that the kernel need know neither; the sums take a norm's mean out of a product.
    """
    c = model.config
    d = WIDTH // HEADS
    scale = torch.ones(3, 1, 1, 1, device=model.head.weight.device)
    scale[0] = d**-0.5 * math.log2(math.e)  # the kernel raises 2, not e
    attention, feed_forward, sums = [], [], ([], [])
    for block in model.blocks:
        qkv = (block.attention.qkv.weight * block.norm_1.weight).view(3, HEADS, d, WIDTH) * scale
        qkv = qkv.transpose(0, 1).reshape(HEADS, 3 * d, WIDTH)
        out = for_sending(block.attention.out.weight)
        up = (block.feed_forward.up.weight * block.norm_2.weight).view(HEADS, -1, WIDTH)
        down = for_sending(block.feed_forward.out.weight)
        attention.append(torch.cat([packed(qkv).flatten(1), packed(out).flatten(1)], dim=1))
        feed_forward.append(torch.cat([packed(up).flatten(1), packed(down).flatten(1)], dim=1))
        sums[0].append(row_sums(qkv))
        sums[1].append(row_sums(up))

    head = torch.zeros(-(-c.vocab_size // 16) * 16, WIDTH, device=scale.device)
    head[: c.vocab_size] = model.head.weight * model.norm.weight
    all_sums = [torch.stack(sums[0]), torch.stack(sums[1]), row_sums(head)]
    return (
        torch.stack(attention),
        torch.stack(feed_forward),
        packed(head),
        torch.cat([some.flatten() for some in all_sums]),
    )


def row_sums(matrix):
    return matrix.bfloat16().float().sum(dim=-1)


def for_sending(matrix):
    """A matrix that writes to the stream, (256, K): a block's columns, (blocks, 256, K/8).

    Its rows are so ordered that a thread computes four neighbours of a warp's 32.
    """
    rows = matrix.view(WIDTH // 32, 8, 2, 2, HEADS, -1)  # warp, lane's row, tile, half of the tile
    return rows.permute(4, 0, 2, 3, 1, 5).reshape(HEADS, WIDTH, -1)


def packed(matrix):
    """Weights (..., R, K) as the tensor cores of a warp take them: 16 bytes a lane and tile.

    -> (..., R/16, K/32, 2, 8, 4, 2, 2, 2): pair of tiles, tile; lane's row and column; and of the
    lane's eight numbers: half of columns, half of rows, which of two neighbours.
    """
    *before, rows, columns = matrix.shape
    n = len(before)
    cut = matrix.bfloat16().reshape(*before, rows // 16, 2, 8, columns // 32, 4, 2, 2, 2)
    return cut.permute(*range(n), *(n + i for i in (0, 3, 5, 2, 4, 6, 1, 7))).contiguous()


def packed_keys(keys):
    """Keys (L, H, T, D), a position a row, as `packed` has weights. -> (H, L, …)"""
    layers, heads, context, d = keys.shape
    cut = keys.bfloat16().reshape(layers, heads, context // 16, 2, 8, d // 8, 2, 2, 2)
    return cut.permute(1, 0, 2, 6, 4, 5, 7, 3, 8)


def packed_values(values):
    """Values (L, H, T, D), a channel a row; positions t, t + 8, t + 4, t + 12 are a lane's."""
    layers, heads, context, d = values.shape
    cut = values.bfloat16().reshape(layers, heads, context // 16, 2, 2, 4, d // 16, 2, 8)
    return cut.permute(1, 0, 2, 6, 8, 5, 4, 7, 3)
