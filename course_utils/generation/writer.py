"""Writing fast: what lesson 6's `stream` and `generate` write, by the decoder of this device."""

import torch

from course_utils.generation.decoder import make_decoder
from course_utils.lessons.sampling import check_sampling, draw, filter_logits, window_start


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
    check_sampling(temperature, top_k, top_p, max_new_tokens)
    if tokens.ndim != 2 or tokens.shape[1] == 0:
        raise ValueError(
            "generation needs a prompt of at least one character: tokens of shape (B, T), T >= 1"
        )
    decoder = make_decoder(model, len(tokens), dtype or torch.float32)
    context = model.config.context_length
    settings = (temperature, top_k, top_p)
    text = torch.cat([tokens, tokens.new_zeros(len(tokens), max_new_tokens)], dim=1)
    start = None
    for length in range(tokens.shape[1], text.shape[1]):
        if window_start(length, context) != start:  # a new window is read from its beginning
            start = window_start(length, context)
            logits = decoder.read(text[:, start:length])
            token = draw(filter_logits(logits, *settings), generator)
        else:
            token = decoder.draw_next(token, *settings, generator)
        text[:, length : length + 1] = token
        yield text[:, length : length + 1]


def generate(
    model,
    tokens,
    max_new_tokens,
    temperature=1.0,
    top_k=None,
    top_p=None,
    generator=None,
    dtype=None,
):
    """Continue each row by max_new_tokens, as lesson 6's generate does.

    tokens (B, T) int64 -> (B, T + N)
    """
    new = stream(model, tokens, max_new_tokens, temperature, top_k, top_p, generator, dtype)
    return torch.cat([tokens, *new], dim=1)
