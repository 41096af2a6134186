-- CRC-32 of the payload's bytes as they were accepted: SQLite's pages carry no checksum of their own. NULL for events of
-- before, and for what was purged.
ALTER TABLE event ADD COLUMN payload_hash INTEGER;
