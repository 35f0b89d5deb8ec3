"""Processes that ``benchmarks.loader`` and ``benchmarks.peers`` let work in turns: each side as its own documentation has it."""
