"""``python -m nestseg.cli``."""

from nestseg.cli import main

main()
