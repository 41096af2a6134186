-- Webhooks made over the API: `fields` is what was said of them, without secrets and the values of headers; these are
-- in `sealed` (store/seal.py). Both are NULL for webhooks that stand in files.
ALTER TABLE webhook ADD COLUMN fields TEXT;
ALTER TABLE webhook ADD COLUMN sealed BLOB;

-- Idempotency keys of requests that made a webhook; as the table `idempotency`.
CREATE TABLE webhook_request (
    hash INTEGER PRIMARY KEY,
    proof BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    webhook INTEGER NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

-- `digest` is the SHA-256 of the key: the key itself is kept nowhere.
CREATE TABLE key (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('admin', 'manage', 'submit', 'read')),
    name TEXT NOT NULL,
    hint TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL,
    last_used_ms INTEGER
) STRICT;

-- A person asked for it once more: whatever comes of it says nothing of how its webhook does.
ALTER TABLE delivery ADD COLUMN by_hand INTEGER NOT NULL DEFAULT 0 CHECK (by_hand IN (0, 1));

-- What people look for among millions: what went wrong, and what is theirs. The first two cost nothing where all is well.
CREATE INDEX delivery_ended_badly ON delivery (webhook, state) WHERE state IN ('failed', 'cancelled');
CREATE INDEX delivery_dead ON delivery (state) WHERE state IN ('failed', 'cancelled');
CREATE INDEX event_of_tenant ON event (tenant);
