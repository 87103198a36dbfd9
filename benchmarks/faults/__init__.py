"""Faults, each injected into a real run that is then finished and compared bit by bit.

``python -m benchmarks.faults`` prints the table of ``docs/explanation/reliability.md``.
"""
