"""Causal language models, their loss and log-probabilities, and text generation. A sibling of data: imports neither it nor up."""
