"""A network made fast: the same logits by the library that computes them soonest."""
