-- One row: what this store is. `tag` goes into every public id, `salt` keys the hashes of idempotency keys,
-- `commits` counts committed batches and is what the side file is held against (THREATS §5.5).
CREATE TABLE store (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    id TEXT NOT NULL,
    tag INTEGER NOT NULL,
    salt BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    commits INTEGER NOT NULL DEFAULT 0
) STRICT;

-- `definition` is the webhook as it is shown: neither secrets nor the values of its headers.
CREATE TABLE webhook (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    source TEXT NOT NULL,
    definition TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'disabled')),
    disabled_reason TEXT,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    removed_ms INTEGER
) STRICT;

CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    created_ms INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    type TEXT NOT NULL,
    timestamp TEXT NOT NULL,
    data BLOB NOT NULL,
    idempotency_key TEXT,
    ordering_key TEXT,
    traceparent TEXT,
    test INTEGER NOT NULL DEFAULT 0 CHECK (test IN (0, 1))
) STRICT;

-- The last attempt stands in the delivery's own columns. `response_head` and `response_body` are filled only by a
-- success at the first attempt, which then needs no row in `attempt` (half of a delivery's cost would be that row).
CREATE TABLE delivery (
    seq INTEGER PRIMARY KEY,
    event INTEGER NOT NULL,
    webhook INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'succeeded', 'failed', 'cancelled')),
    due_ms INTEGER,
    attempt_count INTEGER NOT NULL DEFAULT 0,
    strikes INTEGER NOT NULL DEFAULT 0,
    started_ms INTEGER,
    duration_us INTEGER,
    response_code INTEGER,
    error_code TEXT,
    error_detail TEXT,
    remote_address TEXT,
    response_head BLOB,
    response_body BLOB,
    completed_ms INTEGER,
    CHECK (state <> 'pending' OR due_ms IS NOT NULL)
) STRICT;

CREATE INDEX delivery_due ON delivery (webhook, due_ms) WHERE state = 'pending';
CREATE INDEX delivery_of_webhook ON delivery (webhook);

CREATE TABLE attempt (
    delivery INTEGER NOT NULL,
    number INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    response_code INTEGER,
    error_code TEXT,
    error_detail TEXT,
    remote_address TEXT,
    response_head BLOB,
    response_body BLOB,
    PRIMARY KEY (delivery, number)
) STRICT, WITHOUT ROWID;

-- `hash` is 63 bits of a keyed hash of tenant and key, `proof` the next 128, which tell two keys of one hash apart;
-- `fingerprint` tells whether a key came back with other content. The answer's figures are kept, so that they can be
-- given again after the event itself was pruned.
CREATE TABLE idempotency (
    hash INTEGER PRIMARY KEY,
    proof BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    event INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    deliveries INTEGER NOT NULL
) STRICT;
