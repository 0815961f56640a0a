-- Mail for addresses elsewhere, written in the transaction of its message.

CREATE TABLE queue (
    -- AUTOINCREMENT: who claims a row must never meet another under its number
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The row of messages
    message_id      TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    -- Where it goes
    address         TEXT NOT NULL,
    -- The domain of that address, lower case, as A-label
    domain          TEXT NOT NULL,
    -- The accepted forward-path it comes from
    recipient       TEXT NOT NULL,
    -- The parameters of that RCPT, as given
    parameters      TEXT NOT NULL,
    -- waiting, sent or failed
    state           TEXT NOT NULL DEFAULT 'waiting',
    -- How often it was tried to an end
    attempts        INTEGER NOT NULL DEFAULT 0,
    -- Not to be tried before, UTC
    next_attempt_at TEXT NOT NULL,
    -- Who is trying just now, NULL: nobody
    claimed_by      TEXT,
    -- When that claim lapses, UTC, NULL: no claim
    claimed_until   TEXT,
    -- 1: the sender was told that it takes longer
    delay_reported  INTEGER NOT NULL DEFAULT 0 CHECK (delay_reported IN (0, 1)),
    -- The last reply of the next hop, or why there was none, NULL: not tried yet
    last_reply      TEXT,
    -- UTC
    created_at      TEXT NOT NULL
);

CREATE INDEX queue_due ON queue (state, next_attempt_at);
CREATE INDEX queue_message_id ON queue (message_id);
