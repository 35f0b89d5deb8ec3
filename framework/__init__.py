"""zerostream: train GPT-style language models, from a laptop's CPU to a cluster.

Imports only go down: ``train`` > ``checkpoint`` > ``engine`` > ``data`` | ``model`` | ``optim`` | ``metrics`` >
``plugins`` (interface) > ``config`` > ``run_dir``, ``errors``. ARCHITECTURE.md tells the life of a step, a shard, a run.
"""

__version__ = "0.1.0"
