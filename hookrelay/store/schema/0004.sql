-- Who may open the dashboard: `link` until it is opened, which it can be once, then `session`. `digest` is the SHA-256 of
-- what opens it, `key` the id of the key that signed in, with whose end the session ends too.
CREATE TABLE session (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('link', 'session')),
    digest BLOB NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('admin', 'manage', 'read')),
    key TEXT,
    created_ms INTEGER NOT NULL,
    lasts_ms INTEGER NOT NULL,
    ends_ms INTEGER NOT NULL
) STRICT;

-- How many attempts had which outcome and took how long, by periods of `size` seconds. `scope` is a webhook, 0 for all
-- of them, negative for a tenant; what `counter` stands for is told by rules/tally.py.
CREATE TABLE tally (
    size INTEGER NOT NULL,
    start INTEGER NOT NULL,
    scope INTEGER NOT NULL,
    counter INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (size, start, scope, counter)
) STRICT, WITHOUT ROWID;

-- The newest failed attempt of each webhook.
CREATE TABLE last_failure (
    webhook INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    delivery INTEGER NOT NULL,
    error_code TEXT NOT NULL,
    response_code INTEGER
) STRICT;

-- Whether pages of this store may still hold secrets that were not sealed.
ALTER TABLE store ADD COLUMN has_plain INTEGER NOT NULL DEFAULT 1 CHECK (has_plain IN (0, 1));

-- How long each step of an attempt took that had to open its connection (rules/phases.py); NULL where it kept one.
ALTER TABLE delivery ADD COLUMN phases TEXT;
ALTER TABLE attempt ADD COLUMN phases TEXT;
