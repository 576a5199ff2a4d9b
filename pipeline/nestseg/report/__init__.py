"""A report that people like to read: ``report.write(out)``.

``table`` makes plain rows from a view of the journals; ``sheet``, ``page`` and ``serve`` show them.
"""

from nestseg.report.files import write

__all__ = ["write"]
