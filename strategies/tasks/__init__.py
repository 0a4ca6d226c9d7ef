"""What a problem can ask for, one file a task; `TASKS` holds them by id."""

from router.strategies.tasks.base import Grouping, Task, check_task
from router.strategies.tasks.clock import Clock
from router.strategies.tasks.registry import TASKS, get_task, posed

__all__ = ["TASKS", "Clock", "Grouping", "Task", "check_task", "get_task", "posed"]
