"""The thin helper package of Shakespeare, Layer by Layer."""
