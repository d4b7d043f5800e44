"""Converts proposals, working sets and stores to messages and back, by the rules of `wire`."""

from __future__ import annotations

from plait.backend import BeginRequest, Preview
from plait.errors import InvalidArgument
from plait.persist.store_rows import Publication
from plait.rpc import plait_pb2 as pb
from plait.rpc.wire import (
    Names,
    from_change,
    from_conflict,
    from_entry,
    from_json,
    from_key,
    from_session,
    from_snapshot,
    to_change,
    to_conflict,
    to_entry,
    to_json,
    to_key,
    to_session,
    to_snapshot,
)
from plait.types import (
    Choice,
    Delete,
    Lack,
    Mode,
    Operation,
    Participant,
    Proposal,
    Put,
    Resolution,
    Risk,
    Session,
    Source,
    SourceKind,
    Staging,
    Store,
    Strategy,
    Tx,
    TxState,
    Unchanged,
)

CHOICES = Names(Choice, pb.Choice, "CHOICE")
STRATEGIES = Names(Strategy, pb.Strategy, "STRATEGY")
SOURCE_KINDS = Names(SourceKind, pb.SourceKind, "SOURCE_KIND")
TX_STATES = Names(TxState, pb.TxState, "TX_STATE")
MODES = Names(Mode, pb.Mode, "MODE")


# -- proposals ---------------------------------------------------------------------------------------------------------


def to_operation(operation: Operation) -> pb.Operation:
    key = to_key(operation.key)
    match operation:
        case Put():
            put = pb.Put(
                key=key,
                snapshot=to_snapshot(operation.snapshot),
                expected=operation.expected,
                content_id=operation.content_id,
            )
            return pb.Operation(put=put)
        case Delete():
            return pb.Operation(delete=pb.Delete(key=key, expected=operation.expected))
        case Unchanged():
            return pb.Operation(unchanged=pb.Unchanged(key=key, expected=operation.expected))


def from_operation(message: pb.Operation) -> Operation:
    """Raises: InvalidArgument for an operation of no kind."""
    match message.WhichOneof("operation"):
        case "put":
            put = message.put
            return Put(
                from_key(put.key),
                from_snapshot(put.snapshot),
                put.expected if put.HasField("expected") else None,
                put.content_id if put.HasField("content_id") else None,
            )
        case "delete":
            gone = message.delete
            return Delete(from_key(gone.key), gone.expected if gone.HasField("expected") else None)
        case "unchanged":
            kept = message.unchanged
            return Unchanged(from_key(kept.key), kept.expected if kept.HasField("expected") else None)
    raise InvalidArgument("an operation is neither put, delete nor unchanged", remedy="update the client or the server")


def to_proposal(proposal: Proposal) -> pb.Proposal:
    return pb.Proposal(
        ref=proposal.ref,
        operations=[to_operation(operation) for operation in proposal.operations],
        message=proposal.message,
        author=proposal.author,
        properties=proposal.properties,
        session=to_session(proposal.session),
        incarnation=proposal.incarnation,
        tx=proposal.tx,
        attempt=proposal.attempt,
        merged_parents=proposal.merged_parents,
        expected_head=proposal.expected_head,
        idempotency_key=proposal.idempotency_key,
        allow_empty=proposal.allow_empty,
    )


def from_proposal(message: pb.Proposal, session: Session | None = None) -> Proposal:
    """`session`: replaces the message's own, if the receiver knows better who asks."""
    return Proposal(
        ref=message.ref,
        operations=tuple([from_operation(operation) for operation in message.operations]),
        message=message.message,
        author=message.author,
        properties=dict(message.properties),
        session=session or from_session(message.session),
        incarnation=message.incarnation if message.HasField("incarnation") else None,
        tx=message.tx if message.HasField("tx") else None,
        attempt=message.attempt,
        merged_parents=tuple(message.merged_parents),
        expected_head=message.expected_head if message.HasField("expected_head") else None,
        idempotency_key=message.idempotency_key if message.HasField("idempotency_key") else None,
        allow_empty=message.allow_empty,
    )


# -- working sets ------------------------------------------------------------------------------------------------------


def to_source(source: Source) -> pb.Source:
    return pb.Source(
        kind=SOURCE_KINDS.to(source.kind),
        base=source.base,
        theirs=source.theirs,
        keys=[to_key(key) for key in source.keys],
        default=STRATEGIES.to(source.default),
        strategies=[
            pb.KeyStrategy(key=to_key(key), strategy=STRATEGIES.to(strategy)) for key, strategy in source.strategies
        ],
    )


def from_source(message: pb.Source) -> Source:
    return Source(
        SOURCE_KINDS.of(message.kind),
        message.base if message.HasField("base") else None,
        message.theirs,
        tuple(from_key(key) for key in message.keys),
        STRATEGIES.of(message.default),
        tuple((from_key(one.key), STRATEGIES.of(one.strategy)) for one in message.strategies),
    )


def to_begin(repository: str, request: BeginRequest, session: Session) -> pb.BeginRequest:
    return pb.BeginRequest(
        repository=repository,
        id=request.id,
        ref=request.ref,
        name=request.name,
        message=request.message,
        properties=request.properties,
        implicit=request.implicit,
        merged_parents=request.merged_parents,
        source=None if request.source is None else to_source(request.source),
        session=to_session(session),
        base=request.base,
    )


def from_begin(message: pb.BeginRequest) -> BeginRequest:
    """Without the session. Properties that were None come back as empty, which means the same."""
    return BeginRequest(
        message.id,
        message.ref,
        message.name,
        message.message,
        dict(message.properties),
        message.implicit,
        tuple(message.merged_parents),
        from_source(message.source) if message.HasField("source") else None,
        message.base,
    )


def to_tx(tx: Tx) -> pb.Tx:
    return pb.Tx(
        id=tx.id,
        state=TX_STATES.to(tx.state),
        ref=tx.ref,
        incarnation=tx.incarnation,
        base=tx.base,
        session=to_session(tx.session),
        created_at_us=tx.created_at_us,
        name=tx.name,
        message=tx.message,
        properties=tx.properties,
        attempt=tx.attempt,
        owner=tx.owner,
        lease_until_us=tx.lease_until_us,
        implicit=tx.implicit,
        merged_parents=tx.merged_parents,
        source=None if tx.source is None else to_source(tx.source),
        commit=tx.commit,
    )


def from_tx(message: pb.Tx) -> Tx:
    return Tx(
        id=message.id,
        state=TX_STATES.of(message.state),
        ref=message.ref,
        incarnation=message.incarnation,
        base=message.base,
        session=from_session(message.session),
        created_at_us=message.created_at_us,
        name=message.name,
        message=message.message,
        properties=dict(message.properties),
        attempt=message.attempt,
        owner=message.owner,
        lease_until_us=message.lease_until_us,
        implicit=message.implicit,
        merged_parents=tuple(message.merged_parents),
        source=from_source(message.source) if message.HasField("source") else None,
        commit=message.commit if message.HasField("commit") else None,
    )


def to_staging(staging: Staging) -> pb.Staging:
    return pb.Staging(
        tx=staging.tx,
        key=to_key(staging.key),
        base=None if staging.base is None else to_snapshot(staging.base),
        location=staging.location,
        attrs=staging.attrs,
    )


def from_staging(message: pb.Staging) -> Staging:
    return Staging(
        message.tx,
        from_key(message.key),
        from_snapshot(message.base) if message.HasField("base") else None,
        message.location,
        dict(message.attrs),
    )


def to_participant(participant: Participant) -> pb.Participant:
    return pb.Participant(
        tx=participant.tx,
        key=to_key(participant.key),
        base=None if participant.base is None else to_entry(participant.base),
        staging=None if participant.staging is None else to_staging(participant.staging),
        dropped=participant.dropped,
        content_id=participant.content_id,
        attempt=participant.attempt,
        prepared=None if participant.prepared is None else to_snapshot(participant.prepared),
    )


def from_participant(message: pb.Participant) -> Participant:
    return Participant(
        message.tx,
        from_key(message.key),
        from_entry(message.base) if message.HasField("base") else None,
        from_staging(message.staging) if message.HasField("staging") else None,
        message.dropped,
        message.content_id if message.HasField("content_id") else None,
        message.attempt,
        from_snapshot(message.prepared) if message.HasField("prepared") else None,
    )


def to_preview(preview: Preview) -> pb.PreviewResponse:
    return pb.PreviewResponse(
        changes=[to_change(change) for change in preview.changes],
        conflicts=[to_conflict(conflict) for conflict in preview.conflicts],
    )


def from_preview(message: pb.PreviewResponse) -> Preview:
    return Preview(
        tuple(from_change(change) for change in message.changes),
        tuple(from_conflict(conflict) for conflict in message.conflicts),
    )


def to_resolution(resolution: Resolution) -> pb.Resolution:
    return pb.Resolution(
        key=to_key(resolution.key),
        item=resolution.item,
        choice=CHOICES.to(resolution.choice),
        value_json=to_json(resolution.value),
    )


def from_resolution(message: pb.Resolution) -> Resolution:
    return Resolution(
        from_key(message.key),
        message.item if message.HasField("item") else None,
        CHOICES.of(message.choice),
        from_json(message.value_json) if message.HasField("value_json") else None,
    )


# -- stores ------------------------------------------------------------------------------------------------------------


def to_store(store: Store) -> pb.Store:
    return pb.Store(
        name=store.name,
        kind=store.kind,
        mode=MODES.to(store.mode),
        bound_ref=store.bound_ref,
        options=store.options,
    )


def from_store(message: pb.Store) -> Store:
    return Store(message.name, message.kind, MODES.of(message.mode), message.bound_ref, dict(message.options))


def to_lack(lack: Lack) -> pb.Lack:
    return pb.Lack(problem=lack.problem, remedy=lack.remedy)


def from_lack(message: pb.Lack) -> Lack:
    return Lack(message.problem, message.remedy)


def to_risk(risk: Risk) -> pb.Risk:
    return pb.Risk(rule=risk.rule, affects=risk.affects, remedy=risk.remedy)


def from_risk(message: pb.Risk) -> Risk:
    return Risk(message.rule, message.affects, message.remedy)


def to_publication(publication: Publication) -> pb.Publication:
    return pb.Publication(
        store=publication.store,
        asset=publication.asset,
        key=to_key(publication.key),
        published=publication.published,
        target=publication.target,
        seq=publication.seq,
        moving=publication.moving,
        state=publication.state,
        found=publication.found,
        owner=publication.owner,
        lease_until_us=publication.lease_until_us,
        epoch=publication.epoch,
    )


def from_publication(message: pb.Publication) -> Publication:
    return Publication(
        store=message.store,
        asset=message.asset,
        key=from_key(message.key),
        published=message.published if message.HasField("published") else None,
        target=message.target if message.HasField("target") else None,
        seq=message.seq,
        moving=message.moving if message.HasField("moving") else None,
        state=message.state,
        found=message.found if message.HasField("found") else None,
        owner=message.owner,
        lease_until_us=message.lease_until_us,
        epoch=message.epoch,
    )
