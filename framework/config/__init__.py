"""Configuration: the schema, loading with overrides, and the batch arithmetic. Starts without torch."""

from framework.config.batch import BatchPlan, plan_batch
from framework.config.load import (
    build_config,
    config_json_schema,
    dump_config,
    flatten,
    identity,
    identity_fingerprint,
    load_config,
    refuse_other_identity,
)
from framework.config.schema import Config

__all__ = [
    "BatchPlan",
    "Config",
    "build_config",
    "config_json_schema",
    "dump_config",
    "flatten",
    "identity",
    "identity_fingerprint",
    "load_config",
    "plan_batch",
    "refuse_other_identity",
]
