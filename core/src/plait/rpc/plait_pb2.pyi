from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ItemChangeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ITEM_CHANGE_KIND_UNSPECIFIED: _ClassVar[ItemChangeKind]
    ITEM_CHANGE_KIND_ADDED: _ClassVar[ItemChangeKind]
    ITEM_CHANGE_KIND_REMOVED: _ClassVar[ItemChangeKind]
    ITEM_CHANGE_KIND_CHANGED: _ClassVar[ItemChangeKind]

class RefKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REF_KIND_UNSPECIFIED: _ClassVar[RefKind]
    REF_KIND_BRANCH: _ClassVar[RefKind]
    REF_KIND_TAG: _ClassVar[RefKind]

class ConflictKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONFLICT_KIND_UNSPECIFIED: _ClassVar[ConflictKind]
    CONFLICT_KIND_KEY_EXISTS: _ClassVar[ConflictKind]
    CONFLICT_KIND_KEY_DOES_NOT_EXIST: _ClassVar[ConflictKind]
    CONFLICT_KIND_VALUE_DIFFERS: _ClassVar[ConflictKind]
    CONFLICT_KIND_UNEXPECTED_HEAD: _ClassVar[ConflictKind]
    CONFLICT_KIND_KEY_CHANGED: _ClassVar[ConflictKind]
    CONFLICT_KIND_ITEM_CHANGED: _ClassVar[ConflictKind]
    CONFLICT_KIND_SCHEMA_CHANGED: _ClassVar[ConflictKind]
    CONFLICT_KIND_CONSTRAINT: _ClassVar[ConflictKind]

class Choice(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHOICE_UNSPECIFIED: _ClassVar[Choice]
    CHOICE_BASE: _ClassVar[Choice]
    CHOICE_OURS: _ClassVar[Choice]
    CHOICE_THEIRS: _ClassVar[Choice]
    CHOICE_VALUE: _ClassVar[Choice]

class Strategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STRATEGY_UNSPECIFIED: _ClassVar[Strategy]
    STRATEGY_NORMAL: _ClassVar[Strategy]
    STRATEGY_OURS: _ClassVar[Strategy]
    STRATEGY_THEIRS: _ClassVar[Strategy]
    STRATEGY_DROP: _ClassVar[Strategy]

class SourceKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOURCE_KIND_UNSPECIFIED: _ClassVar[SourceKind]
    SOURCE_KIND_MERGE: _ClassVar[SourceKind]
    SOURCE_KIND_CHERRY_PICK: _ClassVar[SourceKind]
    SOURCE_KIND_REVERT: _ClassVar[SourceKind]
    SOURCE_KIND_RESTORE: _ClassVar[SourceKind]
    SOURCE_KIND_ADOPT: _ClassVar[SourceKind]

class TxState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TX_STATE_UNSPECIFIED: _ClassVar[TxState]
    TX_STATE_OPEN: _ClassVar[TxState]
    TX_STATE_SEALED: _ClassVar[TxState]
    TX_STATE_COMMITTED: _ClassVar[TxState]
    TX_STATE_ABORTING: _ClassVar[TxState]
    TX_STATE_ABORTED: _ClassVar[TxState]

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_MANAGED: _ClassVar[Mode]
    MODE_OBSERVED: _ClassVar[Mode]
    MODE_POINTER: _ClassVar[Mode]

class EventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_KIND_UNSPECIFIED: _ClassVar[EventKind]
    EVENT_KIND_REPOSITORY_CREATED: _ClassVar[EventKind]
    EVENT_KIND_COMMIT: _ClassVar[EventKind]
    EVENT_KIND_REF_CREATED: _ClassVar[EventKind]
    EVENT_KIND_REF_MOVED: _ClassVar[EventKind]
    EVENT_KIND_REF_DELETED: _ClassVar[EventKind]
    EVENT_KIND_TX_ABORTED: _ClassVar[EventKind]
    EVENT_KIND_STORE_CHANGED: _ClassVar[EventKind]
    EVENT_KIND_ADOPTED: _ClassVar[EventKind]
    EVENT_KIND_EXPIRED: _ClassVar[EventKind]

class Depth(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEPTH_UNSPECIFIED: _ClassVar[Depth]
    DEPTH_EXISTS: _ClassVar[Depth]
    DEPTH_METADATA: _ClassVar[Depth]
    DEPTH_BYTES: _ClassVar[Depth]
ITEM_CHANGE_KIND_UNSPECIFIED: ItemChangeKind
ITEM_CHANGE_KIND_ADDED: ItemChangeKind
ITEM_CHANGE_KIND_REMOVED: ItemChangeKind
ITEM_CHANGE_KIND_CHANGED: ItemChangeKind
REF_KIND_UNSPECIFIED: RefKind
REF_KIND_BRANCH: RefKind
REF_KIND_TAG: RefKind
CONFLICT_KIND_UNSPECIFIED: ConflictKind
CONFLICT_KIND_KEY_EXISTS: ConflictKind
CONFLICT_KIND_KEY_DOES_NOT_EXIST: ConflictKind
CONFLICT_KIND_VALUE_DIFFERS: ConflictKind
CONFLICT_KIND_UNEXPECTED_HEAD: ConflictKind
CONFLICT_KIND_KEY_CHANGED: ConflictKind
CONFLICT_KIND_ITEM_CHANGED: ConflictKind
CONFLICT_KIND_SCHEMA_CHANGED: ConflictKind
CONFLICT_KIND_CONSTRAINT: ConflictKind
CHOICE_UNSPECIFIED: Choice
CHOICE_BASE: Choice
CHOICE_OURS: Choice
CHOICE_THEIRS: Choice
CHOICE_VALUE: Choice
STRATEGY_UNSPECIFIED: Strategy
STRATEGY_NORMAL: Strategy
STRATEGY_OURS: Strategy
STRATEGY_THEIRS: Strategy
STRATEGY_DROP: Strategy
SOURCE_KIND_UNSPECIFIED: SourceKind
SOURCE_KIND_MERGE: SourceKind
SOURCE_KIND_CHERRY_PICK: SourceKind
SOURCE_KIND_REVERT: SourceKind
SOURCE_KIND_RESTORE: SourceKind
SOURCE_KIND_ADOPT: SourceKind
TX_STATE_UNSPECIFIED: TxState
TX_STATE_OPEN: TxState
TX_STATE_SEALED: TxState
TX_STATE_COMMITTED: TxState
TX_STATE_ABORTING: TxState
TX_STATE_ABORTED: TxState
MODE_UNSPECIFIED: Mode
MODE_MANAGED: Mode
MODE_OBSERVED: Mode
MODE_POINTER: Mode
EVENT_KIND_UNSPECIFIED: EventKind
EVENT_KIND_REPOSITORY_CREATED: EventKind
EVENT_KIND_COMMIT: EventKind
EVENT_KIND_REF_CREATED: EventKind
EVENT_KIND_REF_MOVED: EventKind
EVENT_KIND_REF_DELETED: EventKind
EVENT_KIND_TX_ABORTED: EventKind
EVENT_KIND_STORE_CHANGED: EventKind
EVENT_KIND_ADOPTED: EventKind
EVENT_KIND_EXPIRED: EventKind
DEPTH_UNSPECIFIED: Depth
DEPTH_EXISTS: Depth
DEPTH_METADATA: Depth
DEPTH_BYTES: Depth

class Key(_message.Message):
    __slots__ = ("parts",)
    PARTS_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, parts: _Optional[_Iterable[str]] = ...) -> None: ...

class SnapshotRef(_message.Message):
    __slots__ = ("store", "kind", "asset", "version", "digest", "attrs")
    class AttrsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STORE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ATTRS_FIELD_NUMBER: _ClassVar[int]
    store: str
    kind: str
    asset: str
    version: str
    digest: bytes
    attrs: _containers.ScalarMap[str, str]
    def __init__(self, store: _Optional[str] = ..., kind: _Optional[str] = ..., asset: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[bytes] = ..., attrs: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("key", "content_id", "snapshot")
    KEY_FIELD_NUMBER: _ClassVar[int]
    CONTENT_ID_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    key: Key
    content_id: str
    snapshot: SnapshotRef
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., content_id: _Optional[str] = ..., snapshot: _Optional[_Union[SnapshotRef, _Mapping]] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("key", "before", "after")
    KEY_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    key: Key
    before: Entry
    after: Entry
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., before: _Optional[_Union[Entry, _Mapping]] = ..., after: _Optional[_Union[Entry, _Mapping]] = ...) -> None: ...

class ItemChange(_message.Message):
    __slots__ = ("item", "kind", "aspect", "before_json", "after_json")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ASPECT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_JSON_FIELD_NUMBER: _ClassVar[int]
    AFTER_JSON_FIELD_NUMBER: _ClassVar[int]
    item: str
    kind: ItemChangeKind
    aspect: str
    before_json: str
    after_json: str
    def __init__(self, item: _Optional[str] = ..., kind: _Optional[_Union[ItemChangeKind, str]] = ..., aspect: _Optional[str] = ..., before_json: _Optional[str] = ..., after_json: _Optional[str] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("principal", "author", "client", "properties")
    class PropertiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    principal: str
    author: str
    client: str
    properties: _containers.ScalarMap[str, str]
    def __init__(self, principal: _Optional[str] = ..., author: _Optional[str] = ..., client: _Optional[str] = ..., properties: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ("id", "parents", "root", "author", "message", "committed_at_us", "properties", "tx", "session", "seq")
    class PropertiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    PARENTS_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_AT_US_FIELD_NUMBER: _ClassVar[int]
    PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    id: str
    parents: _containers.RepeatedScalarFieldContainer[str]
    root: bytes
    author: str
    message: str
    committed_at_us: int
    properties: _containers.ScalarMap[str, str]
    tx: str
    session: Session
    seq: int
    def __init__(self, id: _Optional[str] = ..., parents: _Optional[_Iterable[str]] = ..., root: _Optional[bytes] = ..., author: _Optional[str] = ..., message: _Optional[str] = ..., committed_at_us: _Optional[int] = ..., properties: _Optional[_Mapping[str, str]] = ..., tx: _Optional[str] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., seq: _Optional[int] = ...) -> None: ...

class Ref(_message.Message):
    __slots__ = ("name", "kind", "head", "incarnation", "protected")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    PROTECTED_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: RefKind
    head: str
    incarnation: int
    protected: bool
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[RefKind, str]] = ..., head: _Optional[str] = ..., incarnation: _Optional[int] = ..., protected: _Optional[bool] = ...) -> None: ...

class RefMove(_message.Message):
    __slots__ = ("seq", "moved_at_us", "ref", "kind", "incarnation", "before", "after")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    MOVED_AT_US_FIELD_NUMBER: _ClassVar[int]
    REF_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    seq: int
    moved_at_us: int
    ref: str
    kind: RefKind
    incarnation: int
    before: str
    after: str
    def __init__(self, seq: _Optional[int] = ..., moved_at_us: _Optional[int] = ..., ref: _Optional[str] = ..., kind: _Optional[_Union[RefKind, str]] = ..., incarnation: _Optional[int] = ..., before: _Optional[str] = ..., after: _Optional[str] = ...) -> None: ...

class Put(_message.Message):
    __slots__ = ("key", "snapshot", "expected", "content_id")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    CONTENT_ID_FIELD_NUMBER: _ClassVar[int]
    key: Key
    snapshot: SnapshotRef
    expected: bytes
    content_id: str
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., snapshot: _Optional[_Union[SnapshotRef, _Mapping]] = ..., expected: _Optional[bytes] = ..., content_id: _Optional[str] = ...) -> None: ...

class Delete(_message.Message):
    __slots__ = ("key", "expected")
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    key: Key
    expected: bytes
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., expected: _Optional[bytes] = ...) -> None: ...

class Unchanged(_message.Message):
    __slots__ = ("key", "expected")
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    key: Key
    expected: bytes
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., expected: _Optional[bytes] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("put", "delete", "unchanged")
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    put: Put
    delete: Delete
    unchanged: Unchanged
    def __init__(self, put: _Optional[_Union[Put, _Mapping]] = ..., delete: _Optional[_Union[Delete, _Mapping]] = ..., unchanged: _Optional[_Union[Unchanged, _Mapping]] = ...) -> None: ...

class Proposal(_message.Message):
    __slots__ = ("ref", "operations", "message", "author", "properties", "session", "incarnation", "tx", "attempt", "merged_parents", "expected_head", "idempotency_key", "allow_empty")
    class PropertiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REF_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    MERGED_PARENTS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_HEAD_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    ALLOW_EMPTY_FIELD_NUMBER: _ClassVar[int]
    ref: str
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    message: str
    author: str
    properties: _containers.ScalarMap[str, str]
    session: Session
    incarnation: int
    tx: str
    attempt: int
    merged_parents: _containers.RepeatedScalarFieldContainer[str]
    expected_head: str
    idempotency_key: str
    allow_empty: bool
    def __init__(self, ref: _Optional[str] = ..., operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ..., message: _Optional[str] = ..., author: _Optional[str] = ..., properties: _Optional[_Mapping[str, str]] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., incarnation: _Optional[int] = ..., tx: _Optional[str] = ..., attempt: _Optional[int] = ..., merged_parents: _Optional[_Iterable[str]] = ..., expected_head: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., allow_empty: _Optional[bool] = ...) -> None: ...

class Conflict(_message.Message):
    __slots__ = ("key", "kind", "item", "base_json", "ours_json", "theirs_json", "detail")
    KEY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    BASE_JSON_FIELD_NUMBER: _ClassVar[int]
    OURS_JSON_FIELD_NUMBER: _ClassVar[int]
    THEIRS_JSON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    key: Key
    kind: ConflictKind
    item: str
    base_json: str
    ours_json: str
    theirs_json: str
    detail: str
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., kind: _Optional[_Union[ConflictKind, str]] = ..., item: _Optional[str] = ..., base_json: _Optional[str] = ..., ours_json: _Optional[str] = ..., theirs_json: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class Resolution(_message.Message):
    __slots__ = ("key", "item", "choice", "value_json")
    KEY_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    VALUE_JSON_FIELD_NUMBER: _ClassVar[int]
    key: Key
    item: str
    choice: Choice
    value_json: str
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., item: _Optional[str] = ..., choice: _Optional[_Union[Choice, str]] = ..., value_json: _Optional[str] = ...) -> None: ...

class KeyStrategy(_message.Message):
    __slots__ = ("key", "strategy")
    KEY_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    key: Key
    strategy: Strategy
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., strategy: _Optional[_Union[Strategy, str]] = ...) -> None: ...

class Source(_message.Message):
    __slots__ = ("kind", "base", "theirs", "keys", "default", "strategies")
    KIND_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    THEIRS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    STRATEGIES_FIELD_NUMBER: _ClassVar[int]
    kind: SourceKind
    base: str
    theirs: str
    keys: _containers.RepeatedCompositeFieldContainer[Key]
    default: Strategy
    strategies: _containers.RepeatedCompositeFieldContainer[KeyStrategy]
    def __init__(self, kind: _Optional[_Union[SourceKind, str]] = ..., base: _Optional[str] = ..., theirs: _Optional[str] = ..., keys: _Optional[_Iterable[_Union[Key, _Mapping]]] = ..., default: _Optional[_Union[Strategy, str]] = ..., strategies: _Optional[_Iterable[_Union[KeyStrategy, _Mapping]]] = ...) -> None: ...

class Staging(_message.Message):
    __slots__ = ("tx", "key", "base", "location", "attrs")
    class AttrsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TX_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    ATTRS_FIELD_NUMBER: _ClassVar[int]
    tx: str
    key: Key
    base: SnapshotRef
    location: str
    attrs: _containers.ScalarMap[str, str]
    def __init__(self, tx: _Optional[str] = ..., key: _Optional[_Union[Key, _Mapping]] = ..., base: _Optional[_Union[SnapshotRef, _Mapping]] = ..., location: _Optional[str] = ..., attrs: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Participant(_message.Message):
    __slots__ = ("tx", "key", "base", "staging", "dropped", "content_id", "attempt", "prepared")
    TX_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    STAGING_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    CONTENT_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PREPARED_FIELD_NUMBER: _ClassVar[int]
    tx: str
    key: Key
    base: Entry
    staging: Staging
    dropped: bool
    content_id: str
    attempt: int
    prepared: SnapshotRef
    def __init__(self, tx: _Optional[str] = ..., key: _Optional[_Union[Key, _Mapping]] = ..., base: _Optional[_Union[Entry, _Mapping]] = ..., staging: _Optional[_Union[Staging, _Mapping]] = ..., dropped: _Optional[bool] = ..., content_id: _Optional[str] = ..., attempt: _Optional[int] = ..., prepared: _Optional[_Union[SnapshotRef, _Mapping]] = ...) -> None: ...

class Tx(_message.Message):
    __slots__ = ("id", "state", "ref", "incarnation", "base", "session", "created_at_us", "name", "message", "properties", "attempt", "owner", "lease_until_us", "implicit", "merged_parents", "source", "commit")
    class PropertiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REF_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_US_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    LEASE_UNTIL_US_FIELD_NUMBER: _ClassVar[int]
    IMPLICIT_FIELD_NUMBER: _ClassVar[int]
    MERGED_PARENTS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: TxState
    ref: str
    incarnation: int
    base: str
    session: Session
    created_at_us: int
    name: str
    message: str
    properties: _containers.ScalarMap[str, str]
    attempt: int
    owner: str
    lease_until_us: int
    implicit: bool
    merged_parents: _containers.RepeatedScalarFieldContainer[str]
    source: Source
    commit: str
    def __init__(self, id: _Optional[str] = ..., state: _Optional[_Union[TxState, str]] = ..., ref: _Optional[str] = ..., incarnation: _Optional[int] = ..., base: _Optional[str] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., created_at_us: _Optional[int] = ..., name: _Optional[str] = ..., message: _Optional[str] = ..., properties: _Optional[_Mapping[str, str]] = ..., attempt: _Optional[int] = ..., owner: _Optional[str] = ..., lease_until_us: _Optional[int] = ..., implicit: _Optional[bool] = ..., merged_parents: _Optional[_Iterable[str]] = ..., source: _Optional[_Union[Source, _Mapping]] = ..., commit: _Optional[str] = ...) -> None: ...

class Store(_message.Message):
    __slots__ = ("name", "kind", "mode", "bound_ref", "options")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    BOUND_REF_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    mode: Mode
    bound_ref: str
    options: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., mode: _Optional[_Union[Mode, str]] = ..., bound_ref: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Lack(_message.Message):
    __slots__ = ("problem", "remedy")
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    problem: str
    remedy: str
    def __init__(self, problem: _Optional[str] = ..., remedy: _Optional[str] = ...) -> None: ...

class Risk(_message.Message):
    __slots__ = ("rule", "affects", "remedy")
    RULE_FIELD_NUMBER: _ClassVar[int]
    AFFECTS_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    rule: str
    affects: str
    remedy: str
    def __init__(self, rule: _Optional[str] = ..., affects: _Optional[str] = ..., remedy: _Optional[str] = ...) -> None: ...

class Publication(_message.Message):
    __slots__ = ("store", "asset", "key", "published", "target", "seq", "moving", "state", "found", "owner", "lease_until_us", "epoch")
    STORE_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    MOVING_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    LEASE_UNTIL_US_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    store: str
    asset: str
    key: Key
    published: bytes
    target: bytes
    seq: int
    moving: bytes
    state: str
    found: bytes
    owner: str
    lease_until_us: int
    epoch: int
    def __init__(self, store: _Optional[str] = ..., asset: _Optional[str] = ..., key: _Optional[_Union[Key, _Mapping]] = ..., published: _Optional[bytes] = ..., target: _Optional[bytes] = ..., seq: _Optional[int] = ..., moving: _Optional[bytes] = ..., state: _Optional[str] = ..., found: _Optional[bytes] = ..., owner: _Optional[str] = ..., lease_until_us: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("seq", "kind", "record_hash", "payload_json", "commit", "changes")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    RECORD_HASH_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_JSON_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    seq: int
    kind: EventKind
    record_hash: bytes
    payload_json: str
    commit: Commit
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    def __init__(self, seq: _Optional[int] = ..., kind: _Optional[_Union[EventKind, str]] = ..., record_hash: _Optional[bytes] = ..., payload_json: _Optional[str] = ..., commit: _Optional[_Union[Commit, _Mapping]] = ..., changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("where", "what", "remedy", "code")
    WHERE_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    where: str
    what: str
    remedy: str
    code: str
    def __init__(self, where: _Optional[str] = ..., what: _Optional[str] = ..., remedy: _Optional[str] = ..., code: _Optional[str] = ...) -> None: ...

class ErrorDetail(_message.Message):
    __slots__ = ("code", "message", "remedy", "details", "conflicts", "conflicts_total")
    class DetailsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    CONFLICTS_FIELD_NUMBER: _ClassVar[int]
    CONFLICTS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    remedy: str
    details: _containers.ScalarMap[str, str]
    conflicts: _containers.RepeatedCompositeFieldContainer[Conflict]
    conflicts_total: int
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., remedy: _Optional[str] = ..., details: _Optional[_Mapping[str, str]] = ..., conflicts: _Optional[_Iterable[_Union[Conflict, _Mapping]]] = ..., conflicts_total: _Optional[int] = ...) -> None: ...

class RefsRequest(_message.Message):
    __slots__ = ("repository",)
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    repository: str
    def __init__(self, repository: _Optional[str] = ...) -> None: ...

class RefsResponse(_message.Message):
    __slots__ = ("refs",)
    REFS_FIELD_NUMBER: _ClassVar[int]
    refs: _containers.RepeatedCompositeFieldContainer[Ref]
    def __init__(self, refs: _Optional[_Iterable[_Union[Ref, _Mapping]]] = ...) -> None: ...

class ReflogRequest(_message.Message):
    __slots__ = ("repository", "name")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    repository: str
    name: str
    def __init__(self, repository: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ReflogResponse(_message.Message):
    __slots__ = ("moves",)
    MOVES_FIELD_NUMBER: _ClassVar[int]
    moves: _containers.RepeatedCompositeFieldContainer[RefMove]
    def __init__(self, moves: _Optional[_Iterable[_Union[RefMove, _Mapping]]] = ...) -> None: ...

class ResolveRequest(_message.Message):
    __slots__ = ("repository", "spec")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    repository: str
    spec: str
    def __init__(self, repository: _Optional[str] = ..., spec: _Optional[str] = ...) -> None: ...

class ResolveResponse(_message.Message):
    __slots__ = ("commit",)
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    commit: Commit
    def __init__(self, commit: _Optional[_Union[Commit, _Mapping]] = ...) -> None: ...

class MergeBaseRequest(_message.Message):
    __slots__ = ("repository", "ours", "theirs")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    OURS_FIELD_NUMBER: _ClassVar[int]
    THEIRS_FIELD_NUMBER: _ClassVar[int]
    repository: str
    ours: str
    theirs: str
    def __init__(self, repository: _Optional[str] = ..., ours: _Optional[str] = ..., theirs: _Optional[str] = ...) -> None: ...

class MergeBaseResponse(_message.Message):
    __slots__ = ("commit",)
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    commit: Commit
    def __init__(self, commit: _Optional[_Union[Commit, _Mapping]] = ...) -> None: ...

class LogFilter(_message.Message):
    __slots__ = ("author", "message", "principal", "since_us", "until_us", "key", "properties", "first_parent", "client")
    class PropertiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    SINCE_US_FIELD_NUMBER: _ClassVar[int]
    UNTIL_US_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    FIRST_PARENT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    author: str
    message: str
    principal: str
    since_us: int
    until_us: int
    key: Key
    properties: _containers.ScalarMap[str, str]
    first_parent: bool
    client: str
    def __init__(self, author: _Optional[str] = ..., message: _Optional[str] = ..., principal: _Optional[str] = ..., since_us: _Optional[int] = ..., until_us: _Optional[int] = ..., key: _Optional[_Union[Key, _Mapping]] = ..., properties: _Optional[_Mapping[str, str]] = ..., first_parent: _Optional[bool] = ..., client: _Optional[str] = ...) -> None: ...

class LogRequest(_message.Message):
    __slots__ = ("repository", "spec", "wanted")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    repository: str
    spec: str
    wanted: LogFilter
    def __init__(self, repository: _Optional[str] = ..., spec: _Optional[str] = ..., wanted: _Optional[_Union[LogFilter, _Mapping]] = ...) -> None: ...

class LogResponse(_message.Message):
    __slots__ = ("commits",)
    COMMITS_FIELD_NUMBER: _ClassVar[int]
    commits: _containers.RepeatedCompositeFieldContainer[Commit]
    def __init__(self, commits: _Optional[_Iterable[_Union[Commit, _Mapping]]] = ...) -> None: ...

class ScanRequest(_message.Message):
    __slots__ = ("repository", "spec", "prefix")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    repository: str
    spec: str
    prefix: Key
    def __init__(self, repository: _Optional[str] = ..., spec: _Optional[str] = ..., prefix: _Optional[_Union[Key, _Mapping]] = ...) -> None: ...

class ScanResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("repository", "spec", "keys")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    repository: str
    spec: str
    keys: _containers.RepeatedCompositeFieldContainer[Key]
    def __init__(self, repository: _Optional[str] = ..., spec: _Optional[str] = ..., keys: _Optional[_Iterable[_Union[Key, _Mapping]]] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class DiffRequest(_message.Message):
    __slots__ = ("repository", "before", "after", "prefix")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    repository: str
    before: str
    after: str
    prefix: Key
    def __init__(self, repository: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ..., prefix: _Optional[_Union[Key, _Mapping]] = ...) -> None: ...

class DiffResponse(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    def __init__(self, changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ...) -> None: ...

class Side(_message.Message):
    __slots__ = ("spec", "tx", "key")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    spec: str
    tx: str
    key: Key
    def __init__(self, spec: _Optional[str] = ..., tx: _Optional[str] = ..., key: _Optional[_Union[Key, _Mapping]] = ...) -> None: ...

class Items(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, items: _Optional[_Iterable[str]] = ...) -> None: ...

class DiffItemsRequest(_message.Message):
    __slots__ = ("repository", "key", "before", "after", "items")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    repository: str
    key: Key
    before: Side
    after: Side
    items: Items
    def __init__(self, repository: _Optional[str] = ..., key: _Optional[_Union[Key, _Mapping]] = ..., before: _Optional[_Union[Side, _Mapping]] = ..., after: _Optional[_Union[Side, _Mapping]] = ..., items: _Optional[_Union[Items, _Mapping]] = ...) -> None: ...

class DiffItemsResponse(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[ItemChange]
    def __init__(self, changes: _Optional[_Iterable[_Union[ItemChange, _Mapping]]] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("repository", "spec", "key")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    repository: str
    spec: str
    key: Key
    def __init__(self, repository: _Optional[str] = ..., spec: _Optional[str] = ..., key: _Optional[_Union[Key, _Mapping]] = ...) -> None: ...

class CommittedChange(_message.Message):
    __slots__ = ("commit", "change")
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    commit: Commit
    change: Change
    def __init__(self, commit: _Optional[_Union[Commit, _Mapping]] = ..., change: _Optional[_Union[Change, _Mapping]] = ...) -> None: ...

class HistoryResponse(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[CommittedChange]
    def __init__(self, changes: _Optional[_Iterable[_Union[CommittedChange, _Mapping]]] = ...) -> None: ...

class EventsRequest(_message.Message):
    __slots__ = ("repository", "after_seq", "limit")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    repository: str
    after_seq: int
    limit: int
    def __init__(self, repository: _Optional[str] = ..., after_seq: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class EventsResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("repository", "from_seq")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    FROM_SEQ_FIELD_NUMBER: _ClassVar[int]
    repository: str
    from_seq: int
    def __init__(self, repository: _Optional[str] = ..., from_seq: _Optional[int] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("repository", "depth")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    repository: str
    depth: Depth
    def __init__(self, repository: _Optional[str] = ..., depth: _Optional[_Union[Depth, str]] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("problems",)
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    problems: _containers.RepeatedCompositeFieldContainer[Problem]
    def __init__(self, problems: _Optional[_Iterable[_Union[Problem, _Mapping]]] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("repository", "proposal")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    PROPOSAL_FIELD_NUMBER: _ClassVar[int]
    repository: str
    proposal: Proposal
    def __init__(self, repository: _Optional[str] = ..., proposal: _Optional[_Union[Proposal, _Mapping]] = ...) -> None: ...

class CommitResponse(_message.Message):
    __slots__ = ("commit", "gated")
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    GATED_FIELD_NUMBER: _ClassVar[int]
    commit: Commit
    gated: bool
    def __init__(self, commit: _Optional[_Union[Commit, _Mapping]] = ..., gated: _Optional[bool] = ...) -> None: ...

class CommitManyRequest(_message.Message):
    __slots__ = ("repository", "proposals", "atomic")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    PROPOSALS_FIELD_NUMBER: _ClassVar[int]
    ATOMIC_FIELD_NUMBER: _ClassVar[int]
    repository: str
    proposals: _containers.RepeatedCompositeFieldContainer[Proposal]
    atomic: bool
    def __init__(self, repository: _Optional[str] = ..., proposals: _Optional[_Iterable[_Union[Proposal, _Mapping]]] = ..., atomic: _Optional[bool] = ...) -> None: ...

class CommitResult(_message.Message):
    __slots__ = ("commit", "error")
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    commit: Commit
    error: ErrorDetail
    def __init__(self, commit: _Optional[_Union[Commit, _Mapping]] = ..., error: _Optional[_Union[ErrorDetail, _Mapping]] = ...) -> None: ...

class CommitManyResponse(_message.Message):
    __slots__ = ("results", "gated")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    GATED_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[CommitResult]
    gated: bool
    def __init__(self, results: _Optional[_Iterable[_Union[CommitResult, _Mapping]]] = ..., gated: _Optional[bool] = ...) -> None: ...

class SetRefRequest(_message.Message):
    __slots__ = ("repository", "name", "kind", "expected", "after", "protect", "session", "idempotency_key")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    PROTECT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    repository: str
    name: str
    kind: RefKind
    expected: str
    after: str
    protect: bool
    session: Session
    idempotency_key: str
    def __init__(self, repository: _Optional[str] = ..., name: _Optional[str] = ..., kind: _Optional[_Union[RefKind, str]] = ..., expected: _Optional[str] = ..., after: _Optional[str] = ..., protect: _Optional[bool] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class SetRefResponse(_message.Message):
    __slots__ = ("ref",)
    REF_FIELD_NUMBER: _ClassVar[int]
    ref: Ref
    def __init__(self, ref: _Optional[_Union[Ref, _Mapping]] = ...) -> None: ...

class BeginRequest(_message.Message):
    __slots__ = ("repository", "id", "ref", "name", "message", "properties", "implicit", "merged_parents", "source", "session", "base")
    class PropertiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    REF_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    IMPLICIT_FIELD_NUMBER: _ClassVar[int]
    MERGED_PARENTS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    repository: str
    id: str
    ref: str
    name: str
    message: str
    properties: _containers.ScalarMap[str, str]
    implicit: bool
    merged_parents: _containers.RepeatedScalarFieldContainer[str]
    source: Source
    session: Session
    base: str
    def __init__(self, repository: _Optional[str] = ..., id: _Optional[str] = ..., ref: _Optional[str] = ..., name: _Optional[str] = ..., message: _Optional[str] = ..., properties: _Optional[_Mapping[str, str]] = ..., implicit: _Optional[bool] = ..., merged_parents: _Optional[_Iterable[str]] = ..., source: _Optional[_Union[Source, _Mapping]] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., base: _Optional[str] = ...) -> None: ...

class BeginResponse(_message.Message):
    __slots__ = ("tx",)
    TX_FIELD_NUMBER: _ClassVar[int]
    tx: Tx
    def __init__(self, tx: _Optional[_Union[Tx, _Mapping]] = ...) -> None: ...

class GetTxRequest(_message.Message):
    __slots__ = ("repository", "text")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    repository: str
    text: str
    def __init__(self, repository: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class GetTxResponse(_message.Message):
    __slots__ = ("tx",)
    TX_FIELD_NUMBER: _ClassVar[int]
    tx: Tx
    def __init__(self, tx: _Optional[_Union[Tx, _Mapping]] = ...) -> None: ...

class ListTxsRequest(_message.Message):
    __slots__ = ("repository",)
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    repository: str
    def __init__(self, repository: _Optional[str] = ...) -> None: ...

class ListTxsResponse(_message.Message):
    __slots__ = ("txs",)
    TXS_FIELD_NUMBER: _ClassVar[int]
    txs: _containers.RepeatedCompositeFieldContainer[Tx]
    def __init__(self, txs: _Optional[_Iterable[_Union[Tx, _Mapping]]] = ...) -> None: ...

class ParticipantsRequest(_message.Message):
    __slots__ = ("repository", "tx")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    repository: str
    tx: str
    def __init__(self, repository: _Optional[str] = ..., tx: _Optional[str] = ...) -> None: ...

class ParticipantsResponse(_message.Message):
    __slots__ = ("participants",)
    PARTICIPANTS_FIELD_NUMBER: _ClassVar[int]
    participants: _containers.RepeatedCompositeFieldContainer[Participant]
    def __init__(self, participants: _Optional[_Iterable[_Union[Participant, _Mapping]]] = ...) -> None: ...

class StageRequest(_message.Message):
    __slots__ = ("repository", "tx", "keys", "new")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    repository: str
    tx: str
    keys: _containers.RepeatedCompositeFieldContainer[Key]
    new: bool
    def __init__(self, repository: _Optional[str] = ..., tx: _Optional[str] = ..., keys: _Optional[_Iterable[_Union[Key, _Mapping]]] = ..., new: _Optional[bool] = ...) -> None: ...

class StageResponse(_message.Message):
    __slots__ = ("stagings",)
    STAGINGS_FIELD_NUMBER: _ClassVar[int]
    stagings: _containers.RepeatedCompositeFieldContainer[Staging]
    def __init__(self, stagings: _Optional[_Iterable[_Union[Staging, _Mapping]]] = ...) -> None: ...

class GetStagingRequest(_message.Message):
    __slots__ = ("repository", "tx", "key")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    repository: str
    tx: str
    key: Key
    def __init__(self, repository: _Optional[str] = ..., tx: _Optional[str] = ..., key: _Optional[_Union[Key, _Mapping]] = ...) -> None: ...

class GetStagingResponse(_message.Message):
    __slots__ = ("staging",)
    STAGING_FIELD_NUMBER: _ClassVar[int]
    staging: Staging
    def __init__(self, staging: _Optional[_Union[Staging, _Mapping]] = ...) -> None: ...

class BaseEntryRequest(_message.Message):
    __slots__ = ("repository", "tx", "key")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    repository: str
    tx: str
    key: Key
    def __init__(self, repository: _Optional[str] = ..., tx: _Optional[str] = ..., key: _Optional[_Union[Key, _Mapping]] = ...) -> None: ...

class BaseEntryResponse(_message.Message):
    __slots__ = ("entry",)
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    entry: Entry
    def __init__(self, entry: _Optional[_Union[Entry, _Mapping]] = ...) -> None: ...

class KeysRequest(_message.Message):
    __slots__ = ("repository", "tx", "prefix")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    repository: str
    tx: str
    prefix: Key
    def __init__(self, repository: _Optional[str] = ..., tx: _Optional[str] = ..., prefix: _Optional[_Union[Key, _Mapping]] = ...) -> None: ...

class KeysResponse(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[Key]
    def __init__(self, keys: _Optional[_Iterable[_Union[Key, _Mapping]]] = ...) -> None: ...

class SwapLocationRequest(_message.Message):
    __slots__ = ("repository", "tx", "key", "expected", "location")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    repository: str
    tx: str
    key: Key
    expected: str
    location: str
    def __init__(self, repository: _Optional[str] = ..., tx: _Optional[str] = ..., key: _Optional[_Union[Key, _Mapping]] = ..., expected: _Optional[str] = ..., location: _Optional[str] = ...) -> None: ...

class SwapLocationResponse(_message.Message):
    __slots__ = ("swapped",)
    SWAPPED_FIELD_NUMBER: _ClassVar[int]
    swapped: bool
    def __init__(self, swapped: _Optional[bool] = ...) -> None: ...

class DropRequest(_message.Message):
    __slots__ = ("repository", "tx", "key")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    repository: str
    tx: str
    key: Key
    def __init__(self, repository: _Optional[str] = ..., tx: _Optional[str] = ..., key: _Optional[_Union[Key, _Mapping]] = ...) -> None: ...

class DropResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MoveRequest(_message.Message):
    __slots__ = ("repository", "tx", "before", "after")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    repository: str
    tx: str
    before: Key
    after: Key
    def __init__(self, repository: _Optional[str] = ..., tx: _Optional[str] = ..., before: _Optional[_Union[Key, _Mapping]] = ..., after: _Optional[_Union[Key, _Mapping]] = ...) -> None: ...

class MoveResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RestoreRequest(_message.Message):
    __slots__ = ("repository", "tx", "key", "spec", "items")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    repository: str
    tx: str
    key: Key
    spec: str
    items: Items
    def __init__(self, repository: _Optional[str] = ..., tx: _Optional[str] = ..., key: _Optional[_Union[Key, _Mapping]] = ..., spec: _Optional[str] = ..., items: _Optional[_Union[Items, _Mapping]] = ...) -> None: ...

class RestoreResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("repository", "tx")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    repository: str
    tx: str
    def __init__(self, repository: _Optional[str] = ..., tx: _Optional[str] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PreviewRequest(_message.Message):
    __slots__ = ("repository", "tx")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    repository: str
    tx: str
    def __init__(self, repository: _Optional[str] = ..., tx: _Optional[str] = ...) -> None: ...

class PreviewResponse(_message.Message):
    __slots__ = ("changes", "conflicts")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    CONFLICTS_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    conflicts: _containers.RepeatedCompositeFieldContainer[Conflict]
    def __init__(self, changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ..., conflicts: _Optional[_Iterable[_Union[Conflict, _Mapping]]] = ...) -> None: ...

class CommitTxRequest(_message.Message):
    __slots__ = ("repository", "tx", "message", "author", "properties", "unchanged", "allow_empty", "session")
    class PropertiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    ALLOW_EMPTY_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    repository: str
    tx: str
    message: str
    author: str
    properties: _containers.ScalarMap[str, str]
    unchanged: _containers.RepeatedCompositeFieldContainer[Key]
    allow_empty: bool
    session: Session
    def __init__(self, repository: _Optional[str] = ..., tx: _Optional[str] = ..., message: _Optional[str] = ..., author: _Optional[str] = ..., properties: _Optional[_Mapping[str, str]] = ..., unchanged: _Optional[_Iterable[_Union[Key, _Mapping]]] = ..., allow_empty: _Optional[bool] = ..., session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class CommitTxResponse(_message.Message):
    __slots__ = ("commit",)
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    commit: Commit
    def __init__(self, commit: _Optional[_Union[Commit, _Mapping]] = ...) -> None: ...

class DiscardRequest(_message.Message):
    __slots__ = ("repository", "tx")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    repository: str
    tx: str
    def __init__(self, repository: _Optional[str] = ..., tx: _Optional[str] = ...) -> None: ...

class DiscardResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RecoverRequest(_message.Message):
    __slots__ = ("repository",)
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    repository: str
    def __init__(self, repository: _Optional[str] = ...) -> None: ...

class RecoverResponse(_message.Message):
    __slots__ = ("done",)
    DONE_FIELD_NUMBER: _ClassVar[int]
    done: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, done: _Optional[_Iterable[str]] = ...) -> None: ...

class ConflictsRequest(_message.Message):
    __slots__ = ("repository", "tx")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    repository: str
    tx: str
    def __init__(self, repository: _Optional[str] = ..., tx: _Optional[str] = ...) -> None: ...

class ListedConflict(_message.Message):
    __slots__ = ("conflict", "resolution")
    CONFLICT_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    conflict: Conflict
    resolution: Resolution
    def __init__(self, conflict: _Optional[_Union[Conflict, _Mapping]] = ..., resolution: _Optional[_Union[Resolution, _Mapping]] = ...) -> None: ...

class ConflictsResponse(_message.Message):
    __slots__ = ("conflicts",)
    CONFLICTS_FIELD_NUMBER: _ClassVar[int]
    conflicts: _containers.RepeatedCompositeFieldContainer[ListedConflict]
    def __init__(self, conflicts: _Optional[_Iterable[_Union[ListedConflict, _Mapping]]] = ...) -> None: ...

class SettleRequest(_message.Message):
    __slots__ = ("repository", "tx", "resolutions")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    RESOLUTIONS_FIELD_NUMBER: _ClassVar[int]
    repository: str
    tx: str
    resolutions: _containers.RepeatedCompositeFieldContainer[Resolution]
    def __init__(self, repository: _Optional[str] = ..., tx: _Optional[str] = ..., resolutions: _Optional[_Iterable[_Union[Resolution, _Mapping]]] = ...) -> None: ...

class SettleResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StoresRequest(_message.Message):
    __slots__ = ("repository",)
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    repository: str
    def __init__(self, repository: _Optional[str] = ...) -> None: ...

class StoresResponse(_message.Message):
    __slots__ = ("stores",)
    STORES_FIELD_NUMBER: _ClassVar[int]
    stores: _containers.RepeatedCompositeFieldContainer[Store]
    def __init__(self, stores: _Optional[_Iterable[_Union[Store, _Mapping]]] = ...) -> None: ...

class AddStoreRequest(_message.Message):
    __slots__ = ("repository", "store", "session")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    repository: str
    store: Store
    session: Session
    def __init__(self, repository: _Optional[str] = ..., store: _Optional[_Union[Store, _Mapping]] = ..., session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class AddStoreResponse(_message.Message):
    __slots__ = ("missing",)
    MISSING_FIELD_NUMBER: _ClassVar[int]
    missing: _containers.RepeatedCompositeFieldContainer[Lack]
    def __init__(self, missing: _Optional[_Iterable[_Union[Lack, _Mapping]]] = ...) -> None: ...

class SetStoreRequest(_message.Message):
    __slots__ = ("repository", "name", "options", "session")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    repository: str
    name: str
    options: _containers.ScalarMap[str, str]
    session: Session
    def __init__(self, repository: _Optional[str] = ..., name: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ..., session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class SetStoreResponse(_message.Message):
    __slots__ = ("missing",)
    MISSING_FIELD_NUMBER: _ClassVar[int]
    missing: _containers.RepeatedCompositeFieldContainer[Lack]
    def __init__(self, missing: _Optional[_Iterable[_Union[Lack, _Mapping]]] = ...) -> None: ...

class RemoveStoreRequest(_message.Message):
    __slots__ = ("repository", "name", "session")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    repository: str
    name: str
    session: Session
    def __init__(self, repository: _Optional[str] = ..., name: _Optional[str] = ..., session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class RemoveStoreResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CheckStoreRequest(_message.Message):
    __slots__ = ("repository", "name")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    repository: str
    name: str
    def __init__(self, repository: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class CheckStoreResponse(_message.Message):
    __slots__ = ("missing", "risks")
    MISSING_FIELD_NUMBER: _ClassVar[int]
    RISKS_FIELD_NUMBER: _ClassVar[int]
    missing: _containers.RepeatedCompositeFieldContainer[Lack]
    risks: _containers.RepeatedCompositeFieldContainer[Risk]
    def __init__(self, missing: _Optional[_Iterable[_Union[Lack, _Mapping]]] = ..., risks: _Optional[_Iterable[_Union[Risk, _Mapping]]] = ...) -> None: ...

class ImportedAsset(_message.Message):
    __slots__ = ("key", "location")
    KEY_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    key: Key
    location: str
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., location: _Optional[str] = ...) -> None: ...

class ImportAssetsRequest(_message.Message):
    __slots__ = ("repository", "tx", "assets")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    ASSETS_FIELD_NUMBER: _ClassVar[int]
    repository: str
    tx: str
    assets: _containers.RepeatedCompositeFieldContainer[ImportedAsset]
    def __init__(self, repository: _Optional[str] = ..., tx: _Optional[str] = ..., assets: _Optional[_Iterable[_Union[ImportedAsset, _Mapping]]] = ...) -> None: ...

class ImportAssetsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StoreNames(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("repository", "stores")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    STORES_FIELD_NUMBER: _ClassVar[int]
    repository: str
    stores: StoreNames
    def __init__(self, repository: _Optional[str] = ..., stores: _Optional[_Union[StoreNames, _Mapping]] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("publications",)
    PUBLICATIONS_FIELD_NUMBER: _ClassVar[int]
    publications: _containers.RepeatedCompositeFieldContainer[Publication]
    def __init__(self, publications: _Optional[_Iterable[_Union[Publication, _Mapping]]] = ...) -> None: ...

class UnpublishedRequest(_message.Message):
    __slots__ = ("repository",)
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    repository: str
    def __init__(self, repository: _Optional[str] = ...) -> None: ...

class UnpublishedResponse(_message.Message):
    __slots__ = ("publications",)
    PUBLICATIONS_FIELD_NUMBER: _ClassVar[int]
    publications: _containers.RepeatedCompositeFieldContainer[Publication]
    def __init__(self, publications: _Optional[_Iterable[_Union[Publication, _Mapping]]] = ...) -> None: ...

class AdoptRequest(_message.Message):
    __slots__ = ("repository", "key", "session")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    repository: str
    key: Key
    session: Session
    def __init__(self, repository: _Optional[str] = ..., key: _Optional[_Union[Key, _Mapping]] = ..., session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class AdoptResponse(_message.Message):
    __slots__ = ("commit",)
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    commit: Commit
    def __init__(self, commit: _Optional[_Union[Commit, _Mapping]] = ...) -> None: ...

class CreateTokenRequest(_message.Message):
    __slots__ = ("repository", "name")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    repository: str
    name: str
    def __init__(self, repository: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class CreateTokenResponse(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class TokensRequest(_message.Message):
    __slots__ = ("repository",)
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    repository: str
    def __init__(self, repository: _Optional[str] = ...) -> None: ...

class TokenName(_message.Message):
    __slots__ = ("name", "created_at_us")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_US_FIELD_NUMBER: _ClassVar[int]
    name: str
    created_at_us: int
    def __init__(self, name: _Optional[str] = ..., created_at_us: _Optional[int] = ...) -> None: ...

class TokensResponse(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[TokenName]
    def __init__(self, tokens: _Optional[_Iterable[_Union[TokenName, _Mapping]]] = ...) -> None: ...

class DeleteTokenRequest(_message.Message):
    __slots__ = ("repository", "name")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    repository: str
    name: str
    def __init__(self, repository: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class DeleteTokenResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
