-- First attempts go before retries, so the index on what is due tells them apart.
DROP INDEX delivery_due;
CREATE INDEX delivery_due ON delivery (webhook, (strikes > 0), due_ms) WHERE state = 'pending';

-- `ordering` is the chain that a delivery belongs to (store/chains.py); NULL where it may overtake and be overtaken.
ALTER TABLE delivery ADD COLUMN ordering TEXT;
CREATE INDEX delivery_ordering ON delivery (webhook, ordering, seq) WHERE state = 'pending' AND ordering IS NOT NULL;

-- How the webhook does, as far as it must outlive the daemon: failed attempts since the last success, when the first of
-- them ended, and until when its receiver asked to be left alone.
ALTER TABLE webhook ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE webhook ADD COLUMN failing_since_ms INTEGER;
ALTER TABLE webhook ADD COLUMN held_until_ms INTEGER;
