"""One file per question, answered by the same code path as real training."""
