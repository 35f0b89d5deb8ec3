"""Memory, time and cost of a run before it is paid for. Standard library, pydantic and yaml only: starts without torch.

``plan_memory`` and ``plan_speed`` answer for a config as it is, ``make_plan`` for every way of sharding it; docs/planning.md says
how they reckon, and how far off they were.
"""

from framework.planner.calibrate import Calibration, Measured, fit, read_measured
from framework.planner.devices import Device, device_named, load_devices
from framework.planner.efficiency import Efficiency
from framework.planner.memory import MemoryPlan, plan_memory
from framework.planner.plan import Plan, Saving, Way, make_plan, plan_saving
from framework.planner.speed import SpeedPlan, plan_speed

__all__ = [
    "Calibration",
    "Device",
    "Efficiency",
    "Measured",
    "MemoryPlan",
    "Plan",
    "Saving",
    "SpeedPlan",
    "Way",
    "device_named",
    "fit",
    "load_devices",
    "make_plan",
    "plan_memory",
    "plan_saving",
    "plan_speed",
    "read_measured",
]
