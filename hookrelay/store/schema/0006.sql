-- The tenant `hookrelay` is the operators' own: whoever had a key or link of it heard of all tenants' deliveries.
DELETE FROM key WHERE tenant = 'hookrelay';
DELETE FROM session WHERE tenant = 'hookrelay';
-- Whether a tenant has made it itself, with a key, link or session of its own: those are counted (limits.webhooks_per_tenant).
ALTER TABLE webhook ADD COLUMN own INTEGER NOT NULL DEFAULT 0 CHECK (own IN (0, 1));

-- Of a webhook that its file no longer names: for how long a daemon has run since, in milliseconds; NULL where it is named.
ALTER TABLE webhook ADD COLUMN missing_ms INTEGER;

-- For how long a daemon has run on this store, in milliseconds: the clock by which idempotency keys count, which nobody
-- can set. `used_ms` is a key's first use by it; those from before begin now.
ALTER TABLE store ADD COLUMN running_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE idempotency ADD COLUMN used_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE webhook_request ADD COLUMN used_ms INTEGER NOT NULL DEFAULT 0;

-- Who changed what (hookrelay/audit.py). `tenant` is whose the object is, `*` for what concerns all of them; `actor` the id
-- of a key or a link, `file:NAME.toml`, `uid:NUMBER`, `signal:NAME` or `daemon`, `session` where it was done in the
-- dashboard. `by_operator` marks actors of whom a tenant is told no more than that. `more` is JSON: fields, URLs, figures.
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    created_ms INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT,
    actor TEXT NOT NULL,
    by_operator INTEGER NOT NULL CHECK (by_operator IN (0, 1)),
    session TEXT,
    pid INTEGER,
    address TEXT,
    more TEXT NOT NULL
) STRICT;
CREATE INDEX audit_of_tenant ON audit (tenant);
-- CRC-32 of the payload's bytes as they were accepted: SQLite's pages carry no checksum of their own. NULL for events of
-- before, and for what was purged.
ALTER TABLE event ADD COLUMN payload_hash INTEGER;
