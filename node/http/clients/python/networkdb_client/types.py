"""The JSON of /v1, made by generate.py from the OpenAPI document. Do not edit."""

from __future__ import annotations

from typing import Any, Dict, List, Literal, TypedDict, Union


class Agreement(TypedDict):
    """The networks of a node with their digests, for comparison with other nodes."""

    # All networks that it has joined, or the requested one.
    networks: List[NetworkView]
    # The responding node.
    node: str


class CallView(TypedDict):
    """A call."""

    # Its method and path.
    call: str
    # What it does.
    what: str


class Calls(TypedDict):
    """All calls below `/v1`, by path."""

    # The calls.
    calls: List[CallView]


class _ChangeRecord(TypedDict):
    # Where to resume behind this event: an opaque text of up to 4,107 characters, see the parameter `cursor`.
    cursor: str
    # The key.
    key: str
    # The network.
    network: str
    # The entry's owner; for a delete, the previous one.
    owner: str
    # The table.
    table: str


class ChangeRecord(_ChangeRecord, total=False):
    """A change in an event of `/v1/watch`."""

    # The value before, if there was one and it was UTF-8. After a move to another node it may be absent although
    # there was one, if it never arrived there.
    previous: Union[str, None]
    # The value before in standard base64, if it was not UTF-8.
    previous_base64: Union[str, None]
    # The reason of a delete. `deleted`: a node deleted it, or overwrote it with a value that is not shown here.
    # `failed`: its owner has failed; it is shown again if the owner returns. `left_network`, `left_cluster`: its
    # owner has left; the latter also if the owner started anew or was forgotten. `node_left_network`: the
    # responding node has left the network, and what happened to the entry is unknown. `other_owner`: it is still
    # there, and the filter leaves out the entries of its present owner.
    reason: Union[str, None]
    # The value now, if it is UTF-8.
    value: Union[str, None]
    # The value now in standard base64, if it is not UTF-8.
    value_base64: Union[str, None]
    # The version of the entry now; absent from a delete.
    version: Union[str, None]


class _EntryRecord(TypedDict):
    # The key.
    key: str


class EntryRecord(_EntryRecord, total=False):
    """An entry; also a line of an export or an import. The value is in exactly one of the two fields: as text if it
    is UTF-8, in base64 if not."""

    # Why readers do not see it, if they do not: `owner_failed`, or `awaits_comparison` if its owner has returned
    # and the entry may be stale. An import ignores it.
    hidden: Union[str, None]
    # The node that wrote it last. An import ignores it.
    owner: Union[str, None]
    # The value as text.
    value: Union[str, None]
    # The value in standard base64.
    value_base64: Union[str, None]
    # Which write this is, for `If-Match`: the same on all nodes. An import ignores it.
    version: Union[str, None]


class ImportOutcome(TypedDict):
    """The outcome of an import."""

    # Created entries.
    created: int
    # The errors of the first failed lines, with line numbers.
    errors: List[str]
    # Lines that were not imported.
    failed: int
    # Entries that had the value already.
    unchanged: int
    # Entries with a new value.
    updated: int


class JoinOutcome(TypedDict):
    """The outcome of a join."""

    # The number of seeds that responded.
    answered: int


class JoinRequest(TypedDict):
    """Seeds to join through."""

    # Host names or addresses, with or without a port.
    seeds: List[str]


class KeyView(TypedDict):
    """A secret or an authority."""

    # The number of open connections whose peers authenticated with it.
    connections: int
    # Its fingerprint of sixteen hexadecimal digits, the same on all nodes.
    fingerprint: str
    # Whether the node authenticates with it.
    primary: bool


class _Keys(TypedDict):
    # The accepted secrets, the primary one first; or the accepted authorities.
    keys: List[KeyView]
    # `secret-file`, `certificates`, `development` (the public development secret), or `program` (set by the
    # embedding program).
    kind: str


class Keys(_Keys, total=False):
    """The identity of the node, and the identities that it accepts from peers."""

    # The file with the secrets, or with the node's certificate.
    file: Union[str, None]


class LeaveOutcome(TypedDict):
    """The outcome of leaving a network."""

    # The number of final syncs that completed.
    completed: int
    # The outcome as a sentence.
    outcome: str
    # Whether another member has everything that this node had, or no other member is on the network.
    saved: bool
    # The number of members chosen for final syncs.
    wanted: int


class _MemberView(TypedDict):
    # The address at which peers reach it.
    address: str
    # Its known generation.
    generation: int
    # The labels that its operator gives it.
    labels: Dict[str, str]
    # Its name.
    name: str
    # `alive`, `suspect`, `failed` or `left`.
    state: str
    # The time since this node saw it enter that state, in seconds.
    state_seconds: float
    # Whether it is the responding node.
    this_node: bool


class MemberView(_MemberView, total=False):
    """A member of the cluster."""

    # The time since this node last received a message from it directly, in seconds. 0 for the responding node;
    # absent if never.
    last_seen_seconds: Union[float, None]


class Members(TypedDict):
    """All known members, sorted by name."""

    # The members.
    members: List[MemberView]


class NetworkJoinOutcome(TypedDict):
    """The outcome of joining a network."""

    # The same as a sentence.
    outcome: str
    # `synchronised`: the node holds what other members had. `alone`: it knows no other member. `unsynchronised`:
    # entries may still be missing, and the node tries again in the background. `joining`: another call joined it,
    # and its outcome is not known yet.
    result: str


class _NetworkView(TypedDict):
    # Sixteen hexadecimal digits: equal on two nodes if and only if they show the same entries.
    digest: str
    # Visible entries.
    entries: int
    # Entries that are hidden because their owner failed or is not synced yet.
    hidden: int
    # Its name.
    network: str
    # Nodes on the network, this one included.
    peers: int
    # Updates waiting to be sent.
    queue_length: int
    # Whether the node has synced with another member since it joined the network.
    synchronised: bool
    # Tombstones of deleted entries.
    tombstones: int


class NetworkView(_NetworkView, total=False):
    """One network as this node sees it."""

    # How the join went, as [`NetworkJoinOutcome::result`] reported it, or `joining` until then. It stays when the
    # node syncs with members later.
    join: str
    # Entries of other nodes whose latest write is refused here, because of a limit or its time. The previous value
    # stays.
    refused: int


class Networks(TypedDict):
    """The networks a node is on, sorted by name."""

    # The networks.
    networks: List[NetworkView]


class NodeView(TypedDict):
    """The responding node."""

    # The address at which peers reach it.
    address: str
    # Its generation: the number of its instance.
    generation: int
    # Its name.
    name: str
    # The networks that it has joined, sorted.
    networks: List[str]
    # The time since its HTTP server started, in seconds.
    uptime_seconds: float
    # The version of the program.
    version: str


class Peers(TypedDict):
    """The nodes on a network, sorted."""

    # Their names.
    peers: List[str]


class _Problem(TypedDict):
    # The kind of problem, for programs.
    code: str
    # What happened to this request, as a sentence for people.
    detail: str
    # The HTTP status.
    status: int
    # The kind of problem as a sentence: the same for every response with this code.
    title: str
    # A reference to the description of the code.
    type: str


class Problem(_Problem, total=False):
    """The body of an error response, a problem document as in RFC 9457."""

    # The query parameters that the call knows.
    known: Union[List[str], None]
    # The limit that the request exceeds.
    limit: Union[int, None]
    # The version of the entry that a refused write found.
    version: Union[str, None]


class TableView(TypedDict):
    """A table of a network."""

    # Visible entries.
    entries: int
    # Its name.
    table: str


class Tables(TypedDict):
    """The tables of a network, sorted by name."""

    # The tables.
    tables: List[TableView]


class _PutEvent(TypedDict):
    # Where to resume behind this event: an opaque text of up to 4,107 characters, see the parameter `cursor`.
    cursor: str
    # The key.
    key: str
    # The network.
    network: str
    # The entry's owner; for a delete, the previous one.
    owner: str
    # The table.
    table: str
    event: Literal["put"]


class PutEvent(_PutEvent, total=False):
    """An entry appeared, or its value or owner changed."""

    # The value before, if there was one and it was UTF-8. After a move to another node it may be absent although
    # there was one, if it never arrived there.
    previous: Union[str, None]
    # The value before in standard base64, if it was not UTF-8.
    previous_base64: Union[str, None]
    # The reason of a delete. `deleted`: a node deleted it, or overwrote it with a value that is not shown here.
    # `failed`: its owner has failed; it is shown again if the owner returns. `left_network`, `left_cluster`: its
    # owner has left; the latter also if the owner started anew or was forgotten. `node_left_network`: the
    # responding node has left the network, and what happened to the entry is unknown. `other_owner`: it is still
    # there, and the filter leaves out the entries of its present owner.
    reason: Union[str, None]
    # The value now, if it is UTF-8.
    value: Union[str, None]
    # The value now in standard base64, if it is not UTF-8.
    value_base64: Union[str, None]
    # The version of the entry now; absent from a delete.
    version: Union[str, None]


class _DeleteEvent(TypedDict):
    # Where to resume behind this event: an opaque text of up to 4,107 characters, see the parameter `cursor`.
    cursor: str
    # The key.
    key: str
    # The network.
    network: str
    # The entry's owner; for a delete, the previous one.
    owner: str
    # The table.
    table: str
    event: Literal["delete"]


class DeleteEvent(_DeleteEvent, total=False):
    """An entry is not shown any more."""

    # The value before, if there was one and it was UTF-8. After a move to another node it may be absent although
    # there was one, if it never arrived there.
    previous: Union[str, None]
    # The value before in standard base64, if it was not UTF-8.
    previous_base64: Union[str, None]
    # The reason of a delete. `deleted`: a node deleted it, or overwrote it with a value that is not shown here.
    # `failed`: its owner has failed; it is shown again if the owner returns. `left_network`, `left_cluster`: its
    # owner has left; the latter also if the owner started anew or was forgotten. `node_left_network`: the
    # responding node has left the network, and what happened to the entry is unknown. `other_owner`: it is still
    # there, and the filter leaves out the entries of its present owner.
    reason: Union[str, None]
    # The value now, if it is UTF-8.
    value: Union[str, None]
    # The value now in standard base64, if it is not UTF-8.
    value_base64: Union[str, None]
    # The version of the entry now; absent from a delete.
    version: Union[str, None]


class SynchronisedEvent(TypedDict):
    """The client has received everything that this node had: the end of the snapshot, or of what it had missed."""

    # Whether this node has compared each of the watched networks with another member since it joined them. If not,
    # entries that other members have may be missing here. False if it has joined none of them.
    compared: bool
    # Where to resume.
    cursor: str
    event: Literal["synchronised"]


class ResetEvent(TypedDict):
    """Discard everything: all entries follow."""

    # Where to resume.
    cursor: str
    event: Literal["reset"]
    # `too_far_behind`: changes that the client has not received are no longer kept. `unknown_cursor`: this node
    # cannot tell what the client has, for example because it started a moment ago. `other_filter`: the cursor is of
    # a watch with another filter, or of one that excludes the own entries of another node. `incomplete`: the cursor
    # is of the middle of a snapshot. `node_behind`: writes that the client has seen have not arrived here.
    # `too_many_owners`: the cursor is valid only on the node that issued it, because what the client has does not
    # fit in it.
    reason: str


class ClosingEvent(TypedDict):
    """The node ends. Nothing follows, and the state of the entries is unknown: they were not deleted."""

    # Where to resume, on another node.
    cursor: str
    event: Literal["closing"]


class WriteOutcome(TypedDict):
    """The outcome of a write of an entry."""

    # The version of the entry now, as in the `ETag`.
    version: str


# An event of `/v1/watch`: a line, or the data of a server-sent event.
WatchRecord = Union[PutEvent, DeleteEvent, SynchronisedEvent, ResetEvent, ClosingEvent]
