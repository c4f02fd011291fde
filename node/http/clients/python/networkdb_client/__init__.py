"""A client of networkdb's HTTP API, whose watches resume on any node."""

from .client import Client, Entry, NodeUnreachable, ProblemError
from .watching import Watch

__all__ = ["Client", "Entry", "NodeUnreachable", "ProblemError", "Watch"]
