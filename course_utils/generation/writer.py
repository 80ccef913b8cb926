"""Writing fast: what lesson 6's `stream` and `generate` write, by the decoder of this device."""

import torch

from course_utils.generation.decoder import CudaDecoder, Decoder
from course_utils.generation.kernel import KernelDecoder, why_not
from course_utils.generation.speculative import SpeculativeDecoder
from course_utils.lessons.sampling import check_sampling, draw, filter_logits, window_start
from course_utils.messages import _


def make_decoder(model, batch_size=1, dtype=torch.float32, draft=None):
    """The fastest decoder for the model's device, for so many texts at a time.

    dtype: of weights and cache. bfloat16 halves what a GPU must read for many texts; for one text
    it allows the one kernel that writes a whole window, where that fits the model and the card.
    draft: who guesses ahead, as a speculative.CountingDraft; one text on a CPU needs fewer passes
    by it, and is the same text.
    """
    if batch_size == 1 and dtype == torch.bfloat16 and not why_not(model):
        return KernelDecoder(model)
    if model.head.weight.is_cuda:
        return CudaDecoder(model, batch_size, dtype)
    if batch_size == 1 and draft:
        return SpeculativeDecoder(model, draft, dtype)
    return Decoder(model, batch_size, dtype)


@torch.no_grad()
def stream(
    model,
    tokens,
    max_new_tokens,
    temperature=1.0,
    top_k=None,
    top_p=None,
    generator=None,
    dtype=None,
):
    """Yield one new token (B, 1) after the other, as lesson 6's stream does, past the context too.

    A text longer than the context is read again from lesson 6's window_start on. Dropout is off.
    """
    settings = (temperature, top_k, top_p, generator)
    yield from _pieces(model, tokens, max_new_tokens, settings, dtype, longest=1)


@torch.no_grad()
def generate(
    model,
    tokens,
    max_new_tokens,
    temperature=1.0,
    top_k=None,
    top_p=None,
    generator=None,
    dtype=None,
    draft=None,
):
    """Continue each row by max_new_tokens, as lesson 6's generate does.

    tokens (B, T) int64 -> (B, T + N). dtype, draft: as make_decoder's.
    """
    settings = (temperature, top_k, top_p, generator)
    longest = model.config.context_length
    new = _pieces(model, tokens, max_new_tokens, settings, dtype, longest, draft)
    return torch.cat([tokens, *new], dim=1)


def _pieces(model, tokens, max_new_tokens, settings, dtype, longest, draft=None):
    """Yield the next tokens (B, n), at most `longest` at a time, and none across two windows."""
    temperature, top_k, top_p, generator = settings
    check_sampling(temperature, top_k, top_p, max_new_tokens)
    if tokens.ndim != 2 or tokens.shape[1] == 0:
        raise ValueError(
            _("generation needs a prompt of at least one character: tokens of shape (B, T), T >= 1")
        )
    decoder = make_decoder(model, len(tokens), dtype or torch.float32, draft)
    context = model.config.context_length
    text = torch.cat([tokens, tokens.new_zeros(len(tokens), max_new_tokens)], dim=1)
    length = tokens.shape[1]
    start = None
    while length < text.shape[1]:
        if window_start(length, context) != start:  # a new window is read from its beginning
            start = window_start(length, context)
            logits = decoder.read(text[:, start:length])
            piece = draw(filter_logits(logits, temperature, top_k, top_p), generator)
        else:
            n = min(longest, text.shape[1] - length, context - decoder.length)
            piece = decoder.write(piece[:, -1:], n, *settings)
        text[:, length : length + piece.shape[1]] = piece
        length += piece.shape[1]
        yield piece
