"""Watches that resume."""

from __future__ import annotations

import http.client
import json
import logging
import time
from typing import TYPE_CHECKING, Dict, Iterator, List, Mapping, Optional, cast
from urllib.parse import urlencode

if TYPE_CHECKING:
    from . import types

log = logging.getLogger("networkdb_client")

# The pauses after all nodes have failed, in seconds: the first, and the longest of those that double.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0


class Watch:
    """The events of a watch, for ever: `put` for each entry, `synchronised`, then a `put` or a `delete` for each change.

    When a node ends, breaks, or is silent for too long, the watch goes on behind its last event at the next node. If that
    cannot tell what the watch has received, it sends `reset`: discard everything, all entries follow.

    `cursor` is that of the last event that was yielded, for a program that wants to resume after its own restart.
    """

    def __init__(
        self,
        nodes: List[str],
        headers: Mapping[str, str],
        parameters: Mapping[str, str],
        cursor: Optional[str],
        timeout: float,
    ) -> None:
        self.cursor = cursor
        self._nodes = list(nodes)
        self._headers = dict(headers)
        self._parameters = dict(parameters)
        self._timeout = timeout
        self._connection: Optional[http.client.HTTPConnection] = None

    def close(self) -> None:
        """Ends the connection; a loop over the watch must not be in progress."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __iter__(self) -> Iterator[types.WatchRecord]:
        failed, pause = 0, FIRST_PAUSE
        while True:
            node = self._nodes[0]
            why = "the connection broke"
            try:
                for event in self._events(node):
                    self.cursor = event["cursor"]
                    if event["event"] == "closing":
                        why = "it is shutting down"
                        break
                    failed, pause = 0, FIRST_PAUSE
                    yield event
            except (OSError, http.client.HTTPException, ValueError) as error:
                why = str(error) or type(error).__name__
            finally:
                self.close()
            failed += 1
            self._nodes.append(self._nodes.pop(0))
            log.warning("the watch at %s ended (%s); resuming at %s", node, why, self._nodes[0])
            if failed % len(self._nodes) == 0:
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    def _events(self, node: str) -> Iterator[types.WatchRecord]:
        from .client import ProblemError, connect, problem_of

        parameters: Dict[str, str] = dict(self._parameters)
        if self.cursor is not None:
            parameters["cursor"] = self.cursor
        self._connection = connect(node, self._timeout)
        self._connection.request("GET", "/v1/watch?" + urlencode(parameters), headers=self._headers)
        response = self._connection.getresponse()
        if response.status == 503:
            raise OSError("it has too many watches")
        if response.status >= 400:
            raise ProblemError(problem_of(response.status, response.read()))
        while True:
            line = response.readline()
            if not line:
                return
            if line.strip():
                yield cast("types.WatchRecord", json.loads(line))
