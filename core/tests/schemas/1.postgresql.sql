CREATE TABLE public.change (
    repository_id integer NOT NULL,
    key bytea NOT NULL,
    seq bigint NOT NULL,
    before bytea,
    after bytea
);
CREATE TABLE public.commit (
    repository_id integer NOT NULL,
    id bytea NOT NULL,
    seq bigint NOT NULL,
    parents bytea NOT NULL,
    root bytea NOT NULL,
    tx text NOT NULL,
    committed_at_us bigint NOT NULL,
    salt bytea,
    author text NOT NULL,
    message text NOT NULL,
    properties text NOT NULL,
    session_id bytea NOT NULL
);
CREATE TABLE public.conflict (
    repository_id integer NOT NULL,
    tx text NOT NULL,
    key bytea NOT NULL,
    item bytea NOT NULL,
    "position" bigint NOT NULL,
    body bytea NOT NULL,
    resolution bytea
);
CREATE TABLE public.idempotency (
    repository_id integer NOT NULL,
    key text NOT NULL,
    principal text NOT NULL,
    operation text NOT NULL,
    request_digest bytea NOT NULL,
    result bytea NOT NULL
);
CREATE TABLE public.log (
    repository_id integer NOT NULL,
    seq bigint NOT NULL,
    kind text NOT NULL,
    record_hash bytea NOT NULL,
    payload bytea NOT NULL
);
CREATE TABLE public.node (
    repository_id integer NOT NULL,
    id bytea NOT NULL,
    data bytea NOT NULL,
    touched_seq bigint NOT NULL
);
CREATE TABLE public.participant (
    repository_id integer NOT NULL,
    tx text NOT NULL,
    key bytea NOT NULL,
    base bytea,
    base_content_id text,
    content_id text,
    staged boolean NOT NULL,
    staged_base bytea,
    location text NOT NULL,
    attrs text NOT NULL,
    dropped boolean NOT NULL,
    attempt integer NOT NULL,
    prepared bytea,
    intent text NOT NULL
);
CREATE TABLE public.publication (
    repository_id integer NOT NULL,
    store text NOT NULL,
    asset text NOT NULL,
    key bytea NOT NULL,
    published bytea,
    target bytea,
    moving bytea,
    found bytea,
    seq bigint NOT NULL,
    state text NOT NULL,
    owner text NOT NULL,
    lease_until_us bigint NOT NULL,
    epoch bigint NOT NULL
);
CREATE TABLE public.publish_cursor (
    repository_id integer NOT NULL,
    store text NOT NULL,
    head bytea NOT NULL,
    seq bigint NOT NULL
);
CREATE TABLE public.ref (
    repository_id integer NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    head bytea NOT NULL,
    incarnation bigint NOT NULL,
    protected boolean NOT NULL
);
CREATE TABLE public.ref_log (
    repository_id integer NOT NULL,
    seq bigint NOT NULL,
    ref text NOT NULL,
    kind text NOT NULL,
    incarnation bigint NOT NULL,
    moved_at_us bigint NOT NULL,
    before bytea,
    after bytea
);
CREATE TABLE public.repository (
    id integer NOT NULL,
    name text NOT NULL,
    uuid text NOT NULL,
    salt bytea NOT NULL,
    created_at_us bigint NOT NULL
);
CREATE SEQUENCE public.repository_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.repository_id_seq OWNED BY public.repository.id;
CREATE TABLE public.schema_version (
    id smallint NOT NULL,
    revision integer NOT NULL
);
CREATE SEQUENCE public.schema_version_id_seq
    AS smallint
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.schema_version_id_seq OWNED BY public.schema_version.id;
CREATE TABLE public.serial (
    repository_id integer NOT NULL,
    seq bigint NOT NULL,
    record_hash bytea NOT NULL,
    at_us bigint NOT NULL
);
CREATE TABLE public.session (
    repository_id integer NOT NULL,
    id bytea NOT NULL,
    principal text NOT NULL,
    author text NOT NULL,
    client text NOT NULL,
    properties text NOT NULL
);
CREATE TABLE public.snapshot (
    repository_id integer NOT NULL,
    ref_digest bytea NOT NULL,
    body bytea NOT NULL,
    state text NOT NULL,
    touched_seq bigint NOT NULL
);
CREATE TABLE public.store (
    repository_id integer NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    mode text NOT NULL,
    bound_ref text NOT NULL,
    options text NOT NULL
);
CREATE TABLE public.store_state (
    repository_id integer NOT NULL,
    store text NOT NULL,
    name text NOT NULL,
    value bytea NOT NULL
);
CREATE TABLE public.subscription (
    repository_id integer NOT NULL,
    name text NOT NULL,
    seq bigint NOT NULL
);
CREATE TABLE public.token (
    repository_id integer NOT NULL,
    name text NOT NULL,
    digest bytea NOT NULL,
    created_at_us bigint NOT NULL
);
CREATE TABLE public.tx (
    repository_id integer NOT NULL,
    id text NOT NULL,
    state text NOT NULL,
    ref text NOT NULL,
    incarnation bigint NOT NULL,
    base bytea NOT NULL,
    name text NOT NULL,
    message text NOT NULL,
    properties text NOT NULL,
    session_id bytea NOT NULL,
    attempt integer NOT NULL,
    owner text NOT NULL,
    lease_until_us bigint NOT NULL,
    implicit boolean NOT NULL,
    merged_parents bytea NOT NULL,
    source bytea,
    commit_id bytea,
    created_at_us bigint NOT NULL
);
ALTER TABLE ONLY public.repository ALTER COLUMN id SET DEFAULT nextval('public.repository_id_seq'::regclass);
ALTER TABLE ONLY public.schema_version ALTER COLUMN id SET DEFAULT nextval('public.schema_version_id_seq'::regclass);
INSERT INTO public.change VALUES (1, '\x70006100', 3, NULL, '\xf8c1e60a8b9913b2ea30a36bd14fbc3a67f22fbf55f09003992788e8dca027e6');
INSERT INTO public.change VALUES (1, '\x70006200', 3, NULL, '\x0d3d22320f30bbfd66c40f3adac5f51fad5c2b40b88828be58036e7607d4435f');
INSERT INTO public.change VALUES (1, '\x70006300', 6, NULL, '\xbf3349a9b7c7f781e9440cd108df7b48dbe62b15272280f4b534260fc1b2fb17');
INSERT INTO public.change VALUES (1, '\x70006100', 7, '\xf8c1e60a8b9913b2ea30a36bd14fbc3a67f22fbf55f09003992788e8dca027e6', '\xba4bb0c2cbb2d45f80258eb18299e0dd7399d30902c7729f73f2e0d52d856337');
INSERT INTO public.change VALUES (1, '\x70006300', 8, NULL, '\xbf3349a9b7c7f781e9440cd108df7b48dbe62b15272280f4b534260fc1b2fb17');
INSERT INTO public.commit VALUES (1, '\x3fec9dd30b2f5cea86298ad052f1f2007ad6cf0f10cb7ee98e487850b91d7490', 1, '\x', '\xf72a7edd9510326a5b72013d0685ae557a67553847f9db7d58bd8920182f4d47', '018bcfe5-6800-7000-8000-000000040000', 1700000000000002, '\x00000000000000030000000000000003', 'Ada', 'Empty repository', '{}', '\x47bdc8268facff61600a094f7961c9b6');
INSERT INTO public.commit VALUES (1, '\xda8f4fc1195175e4a25fc8de4e9fef686b2750d50bea667d5f40db219e5302fc', 3, '\x3fec9dd30b2f5cea86298ad052f1f2007ad6cf0f10cb7ee98e487850b91d7490', '\x914e953be73eedb4e77485a96ef7cac360d27d3b49adb3a4fdec9c2c3bd59419', '018bcfe5-6800-7000-8000-000000070000', 1700000000000005, '\x00000000000000080000000000000008', 'Ada', 'Two assets', '{"job":"nightly"}', '\x049fd162dd79667177cface8d6cd36a5');
INSERT INTO public.commit VALUES (1, '\xa50d78cf1ff70ca305701bd6a25a95aeb8d205a058d95ce9d310fca1cbe303e4', 6, '\xda8f4fc1195175e4a25fc8de4e9fef686b2750d50bea667d5f40db219e5302fc', '\xe35563ae69e0dc7e0e8d7cde80d980d4c75e6ce039b7e8396e331d1f06e457a2', '018bcfe5-6800-7000-8000-0000000c0000', 1700000000000013, '\x000000000000000d000000000000000d', 'Ada', 'A third', '{}', '\x049fd162dd79667177cface8d6cd36a5');
INSERT INTO public.commit VALUES (1, '\xca7ce4ea8c658b571f4b6b2ba71ab49bad8d845f7064cbf325a34835f88a91d0', 7, '\xda8f4fc1195175e4a25fc8de4e9fef686b2750d50bea667d5f40db219e5302fc', '\x20f786e7e637847dd45f31b2994aa13fe9d31672a66273ca7c3f970574520f13', '018bcfe5-6800-7000-8000-0000000e0000', 1700000000000015, '\x000000000000000f000000000000000f', 'Ada', 'A change', '{}', '\x049fd162dd79667177cface8d6cd36a5');
INSERT INTO public.commit VALUES (1, '\x9ae2dba43ef779131d92e3c4a13315fce6f5fcecbfe4a7f1eb0263429d574003', 8, '\xca7ce4ea8c658b571f4b6b2ba71ab49bad8d845f7064cbf325a34835f88a91d0a50d78cf1ff70ca305701bd6a25a95aeb8d205a058d95ce9d310fca1cbe303e4', '\x031c6c78c315538c1e6aac56a8919dd86ed8d22f2b712b6b4d2b44a64b212aba', '018bcfe5-6800-7000-8000-000000100000', 1700000000000019, '\x00000000000000110000000000000011', 'Ada', 'Merge dev into main', '{}', '\x049fd162dd79667177cface8d6cd36a5');
INSERT INTO public.conflict VALUES (1, '018bcfe5-6800-7000-8000-000000140000', '\x70006100', '\x3a3a37', 0, '\x9792a170a161ac6974656d2d6368616e676564a137c0c0c0a0', '\x9492a170a161a137a46f757273c0');
INSERT INTO public.idempotency VALUES (1, '018bcfe5-6800-7000-8000-000000060000', 'ada', 'commit', '\x06dfeaa86300d8fe16551fe7bdcadfa52e8ce928ac8630a313876b8b51291900', '\xda8f4fc1195175e4a25fc8de4e9fef686b2750d50bea667d5f40db219e5302fc');
INSERT INTO public.idempotency VALUES (1, '018bcfe5-6800-7000-8000-000000090000', 'ada', 'ref', '\x18dc7c52c9b92ee0167eeca05b57b50cfd78b13b7e51cb45d0db1d79c728288e', '\x95a3646576a66272616e6368c420da8f4fc1195175e4a25fc8de4e9fef686b2750d50bea667d5f40db219e5302fc04c2');
INSERT INTO public.idempotency VALUES (1, '018bcfe5-6800-7000-8000-0000000a0000', 'ada', 'ref', '\x9d804d9189dd83644977ea2672ab1095ff48663b1702eb079eea0828c070b806', '\x95a27631a3746167c420da8f4fc1195175e4a25fc8de4e9fef686b2750d50bea667d5f40db219e5302fc05c2');
INSERT INTO public.idempotency VALUES (1, '018bcfe5-6800-7000-8000-0000000b0000', 'ada', 'commit', '\x05110199b83620b9c0b44f49f6515b628572a4eb9f52a7bd159d99f779b79ad3', '\xa50d78cf1ff70ca305701bd6a25a95aeb8d205a058d95ce9d310fca1cbe303e4');
INSERT INTO public.idempotency VALUES (1, 'the-key', 'ada', 'commit', '\x17e9ef0c5976bea8d67c3a87df487e2427e3306b7f19d35b0f14c59d5168a053', '\xca7ce4ea8c658b571f4b6b2ba71ab49bad8d845f7064cbf325a34835f88a91d0');
INSERT INTO public.idempotency VALUES (1, '018bcfe5-6800-7000-8000-000000120000', 'ada', 'ref', '\xe43754b49affbc25524967aa1bfccdc9c04c90f86072504e1d643b6875c38b87', '\x95a3646576a66272616e6368c420a50d78cf1ff70ca305701bd6a25a95aeb8d205a058d95ce9d310fca1cbe303e404c2');
INSERT INTO public.log VALUES (1, 1, 'repository-created', '\x556c3d51ddce0620a1e9834bb18afd1a967a89c589949eab10660614e96ff202', '\x93c4203fec9dd30b2f5cea86298ad052f1f2007ad6cf0f10cb7ee98e487850b91d7490a46d61696ec42005f80f77ac65de778ca4420bd932bbd939a8b6a82a507711cffa764c4dbf6055');
INSERT INTO public.log VALUES (1, 2, 'store-changed', '\x90650a4de02b557d008f982e91200eba93e88a88f2ec1d769faf1d2e3bdd493c', '\x95a170a7706f696e746572a7706f696e746572a46d61696e9192a470617468ab656e763a4e4f5748455245');
INSERT INTO public.log VALUES (1, 3, 'commit', '\x50a102860386ec08971a6a22bbbbb8ff06ec714be42a54f98d6a29f5743d1a90', '\x94c420da8f4fc1195175e4a25fc8de4e9fef686b2750d50bea667d5f40db219e5302fca46d61696e01c4203fec9dd30b2f5cea86298ad052f1f2007ad6cf0f10cb7ee98e487850b91d7490');
INSERT INTO public.log VALUES (1, 4, 'ref-created', '\xdd5dd8da0d82d1dd822529eab7f5fa1c2dcf6ccebd388522ae9500b4ffdf3b34', '\x96a3646576a66272616e636804c0c420da8f4fc1195175e4a25fc8de4e9fef686b2750d50bea667d5f40db219e5302fcc2');
INSERT INTO public.log VALUES (1, 5, 'ref-created', '\x2e5d70132416d0f17f29ef57d210c71c1af3a2bb1c639ee92f411774a732e1f0', '\x96a27631a374616705c0c420da8f4fc1195175e4a25fc8de4e9fef686b2750d50bea667d5f40db219e5302fcc2');
INSERT INTO public.log VALUES (1, 6, 'commit', '\xbf2bfe5ff5f77a967392ee2a73578ff95d5ef162b786736e70d77fdc55f84443', '\x94c420a50d78cf1ff70ca305701bd6a25a95aeb8d205a058d95ce9d310fca1cbe303e4a364657604c420da8f4fc1195175e4a25fc8de4e9fef686b2750d50bea667d5f40db219e5302fc');
INSERT INTO public.log VALUES (1, 7, 'commit', '\xbd43bf68fc4ef5eae00b56254002d6482a953180ecdf2d74ae182691d50c86f5', '\x94c420ca7ce4ea8c658b571f4b6b2ba71ab49bad8d845f7064cbf325a34835f88a91d0a46d61696e01c420da8f4fc1195175e4a25fc8de4e9fef686b2750d50bea667d5f40db219e5302fc');
INSERT INTO public.log VALUES (1, 8, 'commit', '\x80469bb61628f29913bc54370f0eefdaca1cc843156b66a7597fc32503f9fc67', '\x94c4209ae2dba43ef779131d92e3c4a13315fce6f5fcecbfe4a7f1eb0263429d574003a46d61696e01c420ca7ce4ea8c658b571f4b6b2ba71ab49bad8d845f7064cbf325a34835f88a91d0');
INSERT INTO public.log VALUES (1, 9, 'ref-deleted', '\x43a87b7e9be356efc1f853908999776ee7ea1e8674815bdf62bcde444e1b1dd1', '\x96a3646576a66272616e636804c420a50d78cf1ff70ca305701bd6a25a95aeb8d205a058d95ce9d310fca1cbe303e4c0c2');
INSERT INTO public.log VALUES (1, 10, 'tx-aborted', '\xe698252278419b0b47c37dc1dac1bf6245b6ff5a9620902ae98cf2d81e81e6b8', '\x91d92430313862636665352d363830302d373030302d383030302d303030303030313330303030');
INSERT INTO public.node VALUES (1, '\xf72a7edd9510326a5b72013d0685ae557a67553847f9db7d58bd8920182f4d47', '\x9401009090', 1);
INSERT INTO public.node VALUES (1, '\x914e953be73eedb4e77485a96ef7cac360d27d3b49adb3a4fdec9c2c3bd59419', '\x94010092c40470006100c4047000620092c430b9501870a94c61c970c8b1fe119b4648f8c1e60a8b9913b2ea30a36bd14fbc3a67f22fbf55f09003992788e8dca027e6c430be530b50b172c21a428f297ca15806b30d3d22320f30bbfd66c40f3adac5f51fad5c2b40b88828be58036e7607d4435f', 3);
INSERT INTO public.node VALUES (1, '\xe35563ae69e0dc7e0e8d7cde80d980d4c75e6ce039b7e8396e331d1f06e457a2', '\x94010093c40470006100c40470006200c4047000630093c430b9501870a94c61c970c8b1fe119b4648f8c1e60a8b9913b2ea30a36bd14fbc3a67f22fbf55f09003992788e8dca027e6c430be530b50b172c21a428f297ca15806b30d3d22320f30bbfd66c40f3adac5f51fad5c2b40b88828be58036e7607d4435fc430b6b575f5c86f6eabf0e0297bb834e995bf3349a9b7c7f781e9440cd108df7b48dbe62b15272280f4b534260fc1b2fb17', 6);
INSERT INTO public.node VALUES (1, '\x20f786e7e637847dd45f31b2994aa13fe9d31672a66273ca7c3f970574520f13', '\x94010092c40470006100c4047000620092c430b9501870a94c61c970c8b1fe119b4648ba4bb0c2cbb2d45f80258eb18299e0dd7399d30902c7729f73f2e0d52d856337c430be530b50b172c21a428f297ca15806b30d3d22320f30bbfd66c40f3adac5f51fad5c2b40b88828be58036e7607d4435f', 7);
INSERT INTO public.node VALUES (1, '\x031c6c78c315538c1e6aac56a8919dd86ed8d22f2b712b6b4d2b44a64b212aba', '\x94010093c40470006100c40470006200c4047000630093c430b9501870a94c61c970c8b1fe119b4648ba4bb0c2cbb2d45f80258eb18299e0dd7399d30902c7729f73f2e0d52d856337c430be530b50b172c21a428f297ca15806b30d3d22320f30bbfd66c40f3adac5f51fad5c2b40b88828be58036e7607d4435fc430b6b575f5c86f6eabf0e0297bb834e995bf3349a9b7c7f781e9440cd108df7b48dbe62b15272280f4b534260fc1b2fb17', 8);
INSERT INTO public.participant VALUES (1, '018bcfe5-6800-7000-8000-000000140000', '\x70006100', '\x9701a170a7706f696e746572a161a27632c420000000000000000000000000000000000000000000000000000000000000000290', 'b9501870-a94c-61c9-70c8-b1fe119b4648', 'b9501870-a94c-61c9-70c8-b1fe119b4648', true, '\x9701a170a7706f696e746572a161a27632c420000000000000000000000000000000000000000000000000000000000000000290', 'somewhere', '{"attribute":"value"}', false, 0, NULL, '018bcfe5-6800-7000-8000-000000150000');
INSERT INTO public.publication VALUES (1, 'p', 'a', '\x70006100', NULL, NULL, NULL, NULL, 3, 'idle', '', 0, 0);
INSERT INTO public.publish_cursor VALUES (1, 'p', '\x9ae2dba43ef779131d92e3c4a13315fce6f5fcecbfe4a7f1eb0263429d574003', 3);
INSERT INTO public.ref VALUES (1, 'v1', 'tag', '\xda8f4fc1195175e4a25fc8de4e9fef686b2750d50bea667d5f40db219e5302fc', 5, false);
INSERT INTO public.ref VALUES (1, 'main', 'branch', '\x9ae2dba43ef779131d92e3c4a13315fce6f5fcecbfe4a7f1eb0263429d574003', 1, false);
INSERT INTO public.ref_log VALUES (1, 1, 'main', 'branch', 1, 1700000000000002, NULL, '\x3fec9dd30b2f5cea86298ad052f1f2007ad6cf0f10cb7ee98e487850b91d7490');
INSERT INTO public.ref_log VALUES (1, 3, 'main', 'branch', 1, 1700000000000005, '\x3fec9dd30b2f5cea86298ad052f1f2007ad6cf0f10cb7ee98e487850b91d7490', '\xda8f4fc1195175e4a25fc8de4e9fef686b2750d50bea667d5f40db219e5302fc');
INSERT INTO public.ref_log VALUES (1, 4, 'dev', 'branch', 4, 1700000000000007, NULL, '\xda8f4fc1195175e4a25fc8de4e9fef686b2750d50bea667d5f40db219e5302fc');
INSERT INTO public.ref_log VALUES (1, 5, 'v1', 'tag', 5, 1700000000000010, NULL, '\xda8f4fc1195175e4a25fc8de4e9fef686b2750d50bea667d5f40db219e5302fc');
INSERT INTO public.ref_log VALUES (1, 6, 'dev', 'branch', 4, 1700000000000013, '\xda8f4fc1195175e4a25fc8de4e9fef686b2750d50bea667d5f40db219e5302fc', '\xa50d78cf1ff70ca305701bd6a25a95aeb8d205a058d95ce9d310fca1cbe303e4');
INSERT INTO public.ref_log VALUES (1, 7, 'main', 'branch', 1, 1700000000000015, '\xda8f4fc1195175e4a25fc8de4e9fef686b2750d50bea667d5f40db219e5302fc', '\xca7ce4ea8c658b571f4b6b2ba71ab49bad8d845f7064cbf325a34835f88a91d0');
INSERT INTO public.ref_log VALUES (1, 8, 'main', 'branch', 1, 1700000000000019, '\xca7ce4ea8c658b571f4b6b2ba71ab49bad8d845f7064cbf325a34835f88a91d0', '\x9ae2dba43ef779131d92e3c4a13315fce6f5fcecbfe4a7f1eb0263429d574003');
INSERT INTO public.ref_log VALUES (1, 9, 'dev', 'branch', 4, 1700000000000022, '\xa50d78cf1ff70ca305701bd6a25a95aeb8d205a058d95ce9d310fca1cbe303e4', NULL);
INSERT INTO public.repository VALUES (1, 'default', '018bcfe5-6800-7000-8000-000000010000', '\x00000000000000020000000000000002', 1700000000000001);
INSERT INTO public.schema_version VALUES (1, 1);
INSERT INTO public.serial VALUES (1, 10, '\xe698252278419b0b47c37dc1dac1bf6245b6ff5a9620902ae98cf2d81e81e6b8', 1700000000000026);
INSERT INTO public.session VALUES (1, '\x47bdc8268facff61600a094f7961c9b6', 'local', 'Ada', '', '{}');
INSERT INTO public.session VALUES (1, '\x049fd162dd79667177cface8d6cd36a5', 'ada', 'Ada', 'tests', '{"run":"7"}');
INSERT INTO public.snapshot VALUES (1, '\xf8c1e60a8b9913b2ea30a36bd14fbc3a67f22fbf55f09003992788e8dca027e6', '\x9701a170a7706f696e746572a161a27631c420000000000000000000000000000000000000000000000000000000000000000190', 'live', 3);
INSERT INTO public.snapshot VALUES (1, '\x0d3d22320f30bbfd66c40f3adac5f51fad5c2b40b88828be58036e7607d4435f', '\x9701a170a7706f696e746572a162a27631c420000000000000000000000000000000000000000000000000000000000000000190', 'live', 3);
INSERT INTO public.snapshot VALUES (1, '\xba4bb0c2cbb2d45f80258eb18299e0dd7399d30902c7729f73f2e0d52d856337', '\x9701a170a7706f696e746572a161a27632c420000000000000000000000000000000000000000000000000000000000000000290', 'live', 7);
INSERT INTO public.snapshot VALUES (1, '\xbf3349a9b7c7f781e9440cd108df7b48dbe62b15272280f4b534260fc1b2fb17', '\x9701a170a7706f696e746572a163a27631c420000000000000000000000000000000000000000000000000000000000000000190', 'live', 8);
INSERT INTO public.store VALUES (1, 'p', 'pointer', 'pointer', 'main', '{"path":"env:NOWHERE"}');
INSERT INTO public.store_state VALUES (1, 'p', 'n', '\x7374617465');
INSERT INTO public.subscription VALUES (1, 'webhook', 3);
INSERT INTO public.token VALUES (1, 'ci', '\x7914dee310bb0373bf38f6bedd05e1d25016eb83ec7ebe795f2db9c0d435c34d', 1700000000000028);
INSERT INTO public.tx VALUES (1, '018bcfe5-6800-7000-8000-000000100000', 'committed', 'main', 1, '\xca7ce4ea8c658b571f4b6b2ba71ab49bad8d845f7064cbf325a34835f88a91d0', '', 'Merge dev into main', '{}', '\x049fd162dd79667177cface8d6cd36a5', 1, '', 0, false, '\xa50d78cf1ff70ca305701bd6a25a95aeb8d205a058d95ce9d310fca1cbe303e4', '\x96a56d65726765d94064613866346663313139353137356534613235666338646534653966656636383662323735306435306265613636376435663430646232313965353330326663d9406135306437386366316666373063613330353730316264366132356139356165623864323035613035386439356365396433313066636131636265333033653490a66e6f726d616c90', '\x9ae2dba43ef779131d92e3c4a13315fce6f5fcecbfe4a7f1eb0263429d574003', 1700000000000017);
INSERT INTO public.tx VALUES (1, '018bcfe5-6800-7000-8000-000000130000', 'aborted', 'main', 1, '\x9ae2dba43ef779131d92e3c4a13315fce6f5fcecbfe4a7f1eb0263429d574003', 'discarded', '', '{}', '\x049fd162dd79667177cface8d6cd36a5', 0, '', 0, false, '\x', NULL, NULL, 1700000000000025);
INSERT INTO public.tx VALUES (1, '018bcfe5-6800-7000-8000-000000140000', 'open', 'main', 1, '\x9ae2dba43ef779131d92e3c4a13315fce6f5fcecbfe4a7f1eb0263429d574003', 'load', 'A load', '{}', '\x049fd162dd79667177cface8d6cd36a5', 0, '', 0, false, '\x', NULL, NULL, 1700000000000027);
SELECT pg_catalog.setval('public.repository_id_seq', 1, true);
SELECT pg_catalog.setval('public.schema_version_id_seq', 1, false);
ALTER TABLE ONLY public.change
    ADD CONSTRAINT change_pkey PRIMARY KEY (repository_id, key, seq);
ALTER TABLE ONLY public.commit
    ADD CONSTRAINT commit_id UNIQUE (id, repository_id);
ALTER TABLE ONLY public.commit
    ADD CONSTRAINT commit_pkey PRIMARY KEY (repository_id, seq);
ALTER TABLE ONLY public.conflict
    ADD CONSTRAINT conflict_pkey PRIMARY KEY (repository_id, tx, key, item);
ALTER TABLE ONLY public.idempotency
    ADD CONSTRAINT idempotency_pkey PRIMARY KEY (repository_id, key, principal, operation);
ALTER TABLE ONLY public.log
    ADD CONSTRAINT log_pkey PRIMARY KEY (repository_id, seq);
ALTER TABLE ONLY public.node
    ADD CONSTRAINT node_pkey PRIMARY KEY (repository_id, id);
ALTER TABLE ONLY public.participant
    ADD CONSTRAINT participant_pkey PRIMARY KEY (repository_id, tx, key);
ALTER TABLE ONLY public.publication
    ADD CONSTRAINT publication_pkey PRIMARY KEY (repository_id, store, asset);
ALTER TABLE ONLY public.publish_cursor
    ADD CONSTRAINT publish_cursor_pkey PRIMARY KEY (repository_id, store);
ALTER TABLE ONLY public.ref_log
    ADD CONSTRAINT ref_log_pkey PRIMARY KEY (repository_id, seq);
ALTER TABLE ONLY public.ref
    ADD CONSTRAINT ref_pkey PRIMARY KEY (repository_id, name);
ALTER TABLE ONLY public.repository
    ADD CONSTRAINT repository_name_key UNIQUE (name);
ALTER TABLE ONLY public.repository
    ADD CONSTRAINT repository_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.repository
    ADD CONSTRAINT repository_uuid_key UNIQUE (uuid);
ALTER TABLE ONLY public.schema_version
    ADD CONSTRAINT schema_version_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.serial
    ADD CONSTRAINT serial_pkey PRIMARY KEY (repository_id);
ALTER TABLE ONLY public.session
    ADD CONSTRAINT session_pkey PRIMARY KEY (repository_id, id);
ALTER TABLE ONLY public.snapshot
    ADD CONSTRAINT snapshot_pkey PRIMARY KEY (repository_id, ref_digest);
ALTER TABLE ONLY public.store
    ADD CONSTRAINT store_pkey PRIMARY KEY (repository_id, name);
ALTER TABLE ONLY public.store_state
    ADD CONSTRAINT store_state_pkey PRIMARY KEY (repository_id, store, name);
ALTER TABLE ONLY public.subscription
    ADD CONSTRAINT subscription_pkey PRIMARY KEY (repository_id, name);
ALTER TABLE ONLY public.token
    ADD CONSTRAINT token_digest_key UNIQUE (digest);
ALTER TABLE ONLY public.token
    ADD CONSTRAINT token_pkey PRIMARY KEY (repository_id, name);
ALTER TABLE ONLY public.tx
    ADD CONSTRAINT tx_pkey PRIMARY KEY (repository_id, id);
CREATE INDEX change_by_seq ON public.change USING btree (seq, repository_id);
CREATE INDEX publication_by_key ON public.publication USING btree (key, repository_id);
CREATE INDEX publication_undone ON public.publication USING btree (repository_id, store) WHERE ((moving IS NOT NULL) OR (published IS DISTINCT FROM target) OR (state <> 'idle'::text));
CREATE INDEX ref_log_by_ref ON public.ref_log USING btree (repository_id, ref, moved_at_us);
CREATE INDEX tx_live ON public.tx USING btree (repository_id) WHERE ((state <> 'committed'::text) AND (state <> 'aborted'::text));
ALTER TABLE ONLY public.change
    ADD CONSTRAINT change_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
ALTER TABLE ONLY public.commit
    ADD CONSTRAINT commit_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
ALTER TABLE ONLY public.conflict
    ADD CONSTRAINT conflict_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
ALTER TABLE ONLY public.idempotency
    ADD CONSTRAINT idempotency_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
ALTER TABLE ONLY public.log
    ADD CONSTRAINT log_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
ALTER TABLE ONLY public.node
    ADD CONSTRAINT node_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
ALTER TABLE ONLY public.participant
    ADD CONSTRAINT participant_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
ALTER TABLE ONLY public.publication
    ADD CONSTRAINT publication_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
ALTER TABLE ONLY public.publish_cursor
    ADD CONSTRAINT publish_cursor_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
ALTER TABLE ONLY public.ref_log
    ADD CONSTRAINT ref_log_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
ALTER TABLE ONLY public.ref
    ADD CONSTRAINT ref_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
ALTER TABLE ONLY public.serial
    ADD CONSTRAINT serial_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
ALTER TABLE ONLY public.session
    ADD CONSTRAINT session_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
ALTER TABLE ONLY public.snapshot
    ADD CONSTRAINT snapshot_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
ALTER TABLE ONLY public.store
    ADD CONSTRAINT store_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
ALTER TABLE ONLY public.store_state
    ADD CONSTRAINT store_state_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
ALTER TABLE ONLY public.subscription
    ADD CONSTRAINT subscription_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
ALTER TABLE ONLY public.token
    ADD CONSTRAINT token_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
ALTER TABLE ONLY public.tx
    ADD CONSTRAINT tx_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.repository(id);
