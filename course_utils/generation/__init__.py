"""One character at a time, and what it is worth: the fast decoder, the writer, measures of text."""
