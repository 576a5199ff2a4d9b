"""Ours and the peers side by side: same weights, same volumes, same machine, interleaved.

``python -m benchmarks.peers`` from the root of the repository; ``--help`` says the rest.
"""
