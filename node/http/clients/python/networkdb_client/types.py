"""The JSON of /v1, made by generate.py from the OpenAPI document. Do not edit."""

from __future__ import annotations

from typing import Any, Dict, List, Literal, TypedDict, Union


class _AccusationKnown(TypedDict):
    # The first accuser.
    accused_by: str
    # Those that confirmed it, in order; none after those that shorten the suspicion.
    confirmed_by: List[str]
    # The time since it began, in seconds.
    seconds_ago: float


class AccusationKnown(_AccusationKnown, total=False):
    """A suspicion as a member knows it. A member that is alive has refuted it."""

    # The time left for a refutation, in seconds; absent if it is over.
    ends_in_seconds: Union[float, None]
    # Whose claim of failure was followed: the member's own name if its timeout passed; absent unless it failed.
    failed_by: Union[str, None]


class Agreement(TypedDict):
    """Whether the members of a network show the same entries."""

    # Whether all members that answered show the same entries.
    agree: bool
    # Keys under which members hold something else, sorted; at most 32.
    differences: List[DifferenceView]
    # How long the responding node has known, without asking, that a member differs from it, in seconds; 0 if it
    # knows of none.
    disagreement_seconds: float
    # The members of the network, sorted by name.
    members: List[DigestAtMember]
    # Whether there are more such keys, or not all could be found in time.
    more_differences: bool
    # The network.
    network: str
    # The responding node.
    node: str


class _AnswerView(TypedDict):
    # `answered`, or why there is no answer: `failed` (known to have failed or left, and not asked), `late`,
    # `unreachable`, `busy`, `not_member` of the network, or `invalid`.
    answer: str
    # The member's name.
    member: str
    # Whether it is the responding node.
    this_node: bool


class AnswerView(_AnswerView, total=False):
    """Whether a member answered."""

    # The reason as a sentence; absent from an answer.
    explanation: Union[str, None]


_RestArrivalKnown = TypedDict("_RestArrivalKnown", {"from": "Union[str, None]"}, total=False)


class _ArrivalKnown(TypedDict):
    # `local` (the member wrote it), `gossip`, `pull`, `push` or `sync`.
    path: str


class ArrivalKnown(_ArrivalKnown, _RestArrivalKnown, total=False):
    """How a write came to a member."""

    # The node that wrote that.
    replaced_owner: Union[str, None]
    # The version in whose place it came; absent if there was none.
    replaced_version: Union[str, None]
    # The time since then, in seconds; absent from a local write that replaced nothing.
    seconds_ago: Union[float, None]


class Batch(TypedDict):
    """Writes that are made in one step."""

    # The writes, in order, each to another entry.
    writes: List[BatchWrite]


class _BatchDelete(TypedDict):
    # The key.
    key: str
    # The table.
    table: str


class BatchDelete(_BatchDelete, total=False):
    """A write that deletes an entry, whichever node wrote it."""

    # Only the entry of this version; `*` is the same as none.
    if_match: Union[str, None]


class BatchOutcome(TypedDict):
    """What became of a batch."""

    # The version of each write, in order.
    versions: List[str]


class _BatchPut(TypedDict):
    # The key.
    key: str
    # The table.
    table: str


class BatchPut(_BatchPut, total=False):
    """A write that creates or replaces an entry, whichever node wrote it. The value is in exactly one of the two
    fields."""

    # Only over the entry of this version; `*` only if there is an entry.
    if_match: Union[str, None]
    # With `*`: only if there is none.
    if_none_match: Union[str, None]
    # The value as text.
    value: Union[str, None]
    # The value in standard base64.
    value_base64: Union[str, None]


class PutBatchWrite(TypedDict):
    """Creates or replaces an entry."""

    # Creates or replaces an entry.
    put: BatchPut


class DeleteBatchWrite(TypedDict):
    """Deletes an entry."""

    # Deletes an entry.
    delete: BatchDelete


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


class DifferenceView(TypedDict):
    """A key under which members hold something else."""

    # The same as a sentence.
    explanation: str
    # The key.
    key: str
    # What each member that answered knows about it.
    members: List[EntryAtMember]
    # `refused`, `hidden`, `unsynchronised`, `conflict` or `not_arrived`.
    reason: str
    # The table.
    table: str


class _DigestAtMember(TypedDict):
    # `answered`, or why there is no answer: `failed` (known to have failed or left, and not asked), `late`,
    # `unreachable`, `busy`, `not_member` of the network, or `invalid`.
    answer: str
    # The member's name.
    member: str
    # Whether it is the responding node.
    this_node: bool


class DigestAtMember(_DigestAtMember, total=False):
    """What one member holds of a network, in brief."""

    # The reason as a sentence; absent from an answer.
    explanation: Union[str, None]
    holds: Union[HoldingsView, None]


class _EntryAtMember(TypedDict):
    # `answered`, or why there is no answer: `failed` (known to have failed or left, and not asked), `late`,
    # `unreachable`, `busy`, `not_member` of the network, or `invalid`.
    answer: str
    # The member's name.
    member: str
    # Whether it is the responding node.
    this_node: bool


class EntryAtMember(_EntryAtMember, total=False):
    """What one member knows about an entry."""

    # The reason as a sentence; absent from an answer.
    explanation: Union[str, None]
    entry: Union[EntryKnown, None]


class EntryExplained(TypedDict):
    """What every member of a network knows about an entry."""

    # The key.
    key: str
    # The members of the network, sorted by name.
    members: List[EntryAtMember]
    # The network.
    network: str
    # The responding node.
    node: str
    # The table.
    table: str


class _EntryKnown(TypedDict):
    # `visible`, `hidden`, `deleted` (its tombstone is held), or `absent`: never written, or forgotten.
    state: str
    # Whether the member has synchronised the network with another. If not, it may lack writes.
    synchronised: bool


class EntryKnown(_EntryKnown, total=False):
    """What a member knows about the entry under a key."""

    # Why it is hidden: `owner_failed`, or `awaits_comparison` if its owner has returned and it may be stale.
    hidden: Union[str, None]
    refused: Union[RefusedKnown, None]
    write: Union[WriteKnown, None]


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


class HoldingsView(TypedDict):
    """What a member holds of a network, in brief."""

    # Sixteen hexadecimal digits: equal on two nodes if and only if they show the same entries.
    digest: str
    # Visible entries.
    entries: int
    # Hidden entries.
    hidden: int
    # Writes of other nodes that it refuses.
    refused: int
    # Whether it has synchronised the network with another member.
    synchronised: bool
    # Tombstones of deleted entries.
    tombstones: int


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


class _LogRecord(TypedDict):
    # `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    level: str


class LogRecord(_LogRecord, total=False):
    """A line of the log of the program that runs a node."""

    # The sentence.
    message: str
    # The part of the program that wrote it.
    target: str
    # When it was written, as in RFC 3339.
    timestamp: Union[str, None]


class _MemberAtMember(TypedDict):
    # `answered`, or why there is no answer: `failed` (known to have failed or left, and not asked), `late`,
    # `unreachable`, `busy`, `not_member` of the network, or `invalid`.
    answer: str
    # The member's name.
    member: str
    # Whether it is the responding node.
    this_node: bool


class MemberAtMember(_MemberAtMember, total=False):
    """What one member knows of another."""

    # The reason as a sentence; absent from an answer.
    explanation: Union[str, None]
    known: Union[MemberKnown, None]


class MemberExplained(TypedDict):
    """What every active member of the cluster knows of a member."""

    # The active members and the one in question, sorted by name.
    members: List[MemberAtMember]
    # The member in question.
    name: str
    # The responding node.
    node: str


class _MemberKnown(TypedDict):
    # The address.
    address: str
    # The known generation.
    generation: int
    # How often this instance refuted a claim or changed its labels.
    incarnation: int
    # `alive`, `suspect`, `failed` or `left`.
    state: str
    # The time since it entered that state.
    state_seconds: float


class MemberKnown(_MemberKnown, total=False):
    """What a member knows of another. Times are in seconds before its answer."""

    accusation: Union[AccusationKnown, None]
    # The time since its last answer to a probe; absent if there was none.
    acknowledged_seconds: Union[float, None]
    # The time since something arrived directly from it; absent if never.
    last_seen_seconds: Union[float, None]
    # How long that answer took, in seconds, with the handshake if there was no connection.
    round_trip_seconds: Union[float, None]


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
    # The smoothed round-trip time to it, in seconds. Absent while this node has no connection with it.
    round_trip_seconds: Union[float, None]


class Members(TypedDict):
    """All known members, sorted by name."""

    # The members.
    members: List[MemberView]


class MissingView(TypedDict):
    """A member that is not known to have a write."""

    # The reason as a sentence.
    explanation: str
    # The member.
    member: str
    # `not_arrived`; `refused` because of a limit or the write's time; or why there was no answer: `not_awaited`
    # since enough others had answered, `late`, `failed`, `unreachable`, `busy`, `not_member`, `not_asked` or
    # `invalid`.
    reason: str


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
    # Which write of a batch failed, from 0 on.
    write: Union[int, None]


class ReceiptView(TypedDict):
    """Which members of the network have a write."""

    # The members that have it, the responding node included, sorted by name.
    known_by: List[str]
    # The members of which this is not known. Once enough have it, the others are not waited for.
    missing: List[MissingView]
    # As many members were to have it.
    wanted: int


class RefusedKnown(TypedDict):
    """A write that a member refuses."""

    # The node that wrote it.
    owner: str
    # `future_time`, `too_long`, `network_full`, `too_many_tables`, `too_many_bytes` or `fragmented`.
    reason: str
    # When it was written by that node's clock, in seconds since 1970.
    written: float


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


class _WriteKnown(TypedDict):
    # The length of the value in bytes; 0 for a delete.
    bytes: int
    # The epoch of the owner's attachment to the network.
    epoch: int
    # The generation of the owner's instance.
    generation: int
    # The node that wrote it.
    owner: str
    # Its version.
    version: str
    # When it was written by the owner's clock, in seconds since 1970.
    written: float


class WriteKnown(_WriteKnown, total=False):
    """A write as a member holds it."""

    arrival: Union[ArrivalKnown, None]
    # For a delete: the time until its tombstone is forgotten, in seconds.
    tombstone_seconds: Union[float, None]


class _WriteOutcome(TypedDict):
    # The version of the write, as in the `ETag` of an entry.
    version: str


class WriteOutcome(_WriteOutcome, total=False):
    """The outcome of a write of an entry."""

    receipt: Union[ReceiptView, None]


# A write of a batch.
BatchWrite = Union[PutBatchWrite, DeleteBatchWrite]
# An event of `/v1/watch`: a line, or the data of a server-sent event.
WatchRecord = Union[PutEvent, DeleteEvent, SynchronisedEvent, ResetEvent, ClosingEvent]
