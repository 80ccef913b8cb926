"""Timings that can be repeated, beside Hugging Face's GPT-2 and the limits of the machine."""
