"""Pruning on the validation cases: what each level of a bundle scores and costs, and the choice."""
