-- When the payload of an event was expunged: its data is `null` since then, and what its receivers answered is gone.
ALTER TABLE event ADD COLUMN purged_ms INTEGER;
