"""Training on many devices and machines: ``launch_run``; and what a run will cost: ``plan_run``."""

from kaggle_kit.launch.measure import plan_run
from kaggle_kit.launch.plan import Option, Plan
from kaggle_kit.launch.ray import Needs, connected, run_tasks
from kaggle_kit.launch.run import LaunchOptions, launch_run

__all__ = ["LaunchOptions", "Needs", "Option", "Plan", "connected", "launch_run", "plan_run", "run_tasks"]
