"""Memory, time and cost of a run before it is paid for. Standard library, pydantic and yaml only: starts without torch."""

from framework.planner.devices import Device, device_named, load_devices
from framework.planner.memory import MemoryPlan, plan_memory

__all__ = ["Device", "MemoryPlan", "device_named", "load_devices", "plan_memory"]
