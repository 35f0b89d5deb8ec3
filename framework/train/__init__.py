"""The loop and its hooks. ``python -m framework.train`` is one rank's entry point."""
