"""Bundles: recipes, their rendering, where they lie, and the checks they must pass."""
