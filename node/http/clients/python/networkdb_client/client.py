"""Calls of one of several nodes of a cluster."""

from __future__ import annotations

import base64
import http.client
import json
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Optional, cast
from urllib.parse import quote, urlencode, urlsplit

from . import types
from .watching import Watch


class ProblemError(Exception):
    """A node refused a call. `code` does not change between versions; `problem` is the whole document."""

    def __init__(self, problem: types.Problem) -> None:
        super().__init__(problem["detail"])
        self.problem = problem
        self.code = problem["code"]
        self.status = problem["status"]


class NodeUnreachable(Exception):
    """No node answered."""


@dataclass(frozen=True)
class Entry:
    """An entry of a table."""

    key: str
    value: bytes
    owner: str
    version: str


def value_of(record: Mapping[str, Any], name: str = "value") -> Optional[bytes]:
    """The bytes of a value in a record, which has them as text or in base64. `None` if it has none."""
    text, encoded = record.get(name), record.get(name + "_base64")
    if text is not None:
        return cast(str, text).encode()
    return None if encoded is None else base64.b64decode(encoded)


class Client:
    """Calls the first of these nodes that answers.

    `timeout` bounds the wait for a node in seconds, and also how long one may be silent while it is watched: nodes send
    something every ten seconds.
    """

    def __init__(self, *nodes: str, token: Optional[str] = None, timeout: float = 30.0) -> None:
        if not nodes:
            raise ValueError("a client needs the address of a node, such as http://127.0.0.1:2000")
        for node in nodes:
            if urlsplit(node).scheme not in ("http", "https"):
                raise ValueError(f"{node!r} is not an address such as http://127.0.0.1:2000")
        self._nodes: List[str] = list(nodes)
        self._headers: Dict[str, str] = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.timeout = timeout

    # Calls.

    def node(self) -> types.NodeView:
        """The node that answers."""
        return cast(types.NodeView, self._json("GET", "/v1/node"))

    def members(self) -> List[types.MemberView]:
        """The members of the cluster."""
        return cast(types.Members, self._json("GET", "/v1/members"))["members"]

    def networks(self) -> List[types.NetworkView]:
        """The networks that the node has joined."""
        return cast(types.Networks, self._json("GET", "/v1/networks"))["networks"]

    def join_network(self, network: str) -> types.NetworkJoinOutcome:
        """Joins a network, or finds it joined."""
        return cast(types.NetworkJoinOutcome, self._json("PUT", _path("networks", network)))

    def leave_network(self, network: str) -> types.LeaveOutcome:
        """Leaves a network."""
        return cast(types.LeaveOutcome, self._json("DELETE", _path("networks", network)))

    def get(self, network: str, table: str, key: str) -> Optional[Entry]:
        """An entry, or `None`."""
        try:
            record = self._json("GET", _entry(network, table, key))
        except ProblemError as error:
            if error.code == "entry_not_found":
                return None
            raise
        return _as_entry(record)

    def put(
        self, network: str, table: str, key: str, value: bytes, *, version: Optional[str] = None, create: bool = False
    ) -> str:
        """Creates or replaces an entry: with `version` only that version, with `create` only if there is none. Returns the
        version that it has now."""
        headers = {"If-Match": f'"{version}"'} if version is not None else {}
        if create:
            headers["If-None-Match"] = "*"
        answer = self._json("PUT", _entry(network, table, key), value, headers)
        return cast(types.WriteOutcome, answer)["version"]

    def delete(self, network: str, table: str, key: str, *, version: Optional[str] = None) -> None:
        """Deletes an entry; with `version` only that version."""
        headers = {"If-Match": f'"{version}"'} if version is not None else {}
        self._call("DELETE", _entry(network, table, key), None, headers)

    def entries(self, network: str, table: str, prefix: str = "") -> List[Entry]:
        """The entries of a table, sorted by key."""
        path = _path("networks", network, "tables", table, "entries") + "?" + urlencode({"prefix": prefix})
        return [_as_entry(json.loads(line)) for line in self._call("GET", path).splitlines() if line]

    # Watches.

    def watch(
        self,
        *,
        network: Optional[str] = None,
        table: Optional[str] = None,
        prefix: str = "",
        owner: Optional[str] = None,
        cursor: Optional[str] = None,
    ) -> Watch:
        """What is there, then every change, for ever: see `Watch`. A kept `cursor` resumes behind its event."""
        chosen = {"network": network, "table": table, "prefix": prefix, "owner": owner}
        parameters = {name: value for name, value in chosen.items() if value}
        return Watch(self._nodes, self._headers, parameters, cursor, self.timeout)

    def follow(self, network: str, table: str, prefix: str = "") -> Iterator[Dict[str, bytes]]:
        """The table, whenever it is complete and has changed, for ever. It is the same dictionary each time."""
        entries: Dict[str, bytes] = {}
        complete = False
        for event in self.watch(network=network, table=table, prefix=prefix):
            if event["event"] == "put":
                entries[event["key"]] = value_of(event) or b""
            elif event["event"] == "delete":
                entries.pop(event["key"], None)
            elif event["event"] == "reset":
                entries.clear()
                complete = False
            elif event["event"] == "synchronised":
                complete = True
            if complete and event["event"] != "closing":
                yield entries

    # Internals.

    def _json(
        self, method: str, path: str, body: Optional[bytes] = None, headers: Optional[Mapping[str, str]] = None
    ) -> Any:
        return json.loads(self._call(method, path, body, headers))

    def _call(
        self, method: str, path: str, body: Optional[bytes] = None, headers: Optional[Mapping[str, str]] = None
    ) -> bytes:
        failures = []
        for node in list(self._nodes):
            connection = connect(node, self.timeout)
            try:
                connection.connect()
            except OSError as error:
                failures.append(f"{node}: {error}")
                connection.close()
                # The others are asked first from now on.
                self._nodes.remove(node)
                self._nodes.append(node)
                continue
            # Nothing is sent twice: what happened to a call that was sent and not answered is unknown.
            try:
                connection.request(method, path, body, {**self._headers, **(headers or {})})
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                raise NodeUnreachable(f"{node} did not answer: {error}") from error
            finally:
                connection.close()
            if response.status >= 400:
                raise ProblemError(problem_of(response.status, content))
            return content
        raise NodeUnreachable("no node can be reached: " + "; ".join(failures))


def connect(node: str, timeout: float) -> http.client.HTTPConnection:
    """A connection with a node, which is not established yet."""
    address = urlsplit(node)
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    return kind(address.hostname or "", address.port or 2000, timeout=timeout)


def problem_of(status: int, content: bytes) -> types.Problem:
    """The problem in an error response."""
    try:
        return cast(types.Problem, json.loads(content))
    except ValueError:
        text = content[:200].decode(errors="replace")
        return {"type": "about:blank", "title": "not a node", "status": status, "detail": text, "code": "not_a_node"}


def _path(*parts: str) -> str:
    return "/v1" + "".join("/" + quote(part, safe="").replace(".", "%2E") for part in parts)


def _entry(network: str, table: str, key: str) -> str:
    return _path("networks", network, "tables", table, "entries", key)


def _as_entry(record: Mapping[str, Any]) -> Entry:
    return Entry(record["key"], value_of(record) or b"", record["owner"], record["version"])
