-- Events for the application, written in the transaction of their message (a transactional outbox).

CREATE TABLE events (
    -- In the order of their messages' transactions; AUTOINCREMENT: a number is never used again
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The row of messages
    message_id      TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    -- Whom it is for: a URL, or the name of a callable in the program that embeds the server
    destination     TEXT NOT NULL,
    -- waiting, delivered or dead (given up: replay it, or it goes in time)
    state           TEXT NOT NULL DEFAULT 'waiting',
    -- How often it was tried
    attempts        INTEGER NOT NULL DEFAULT 0,
    -- Not to be tried before, UTC; once it is delivered or dead: since when
    next_attempt_at TEXT NOT NULL,
    -- Who is delivering it just now, NULL: nobody
    claimed_by      TEXT,
    -- When that claim lapses, UTC
    claimed_until   TEXT,
    -- Why the last attempt failed, NULL: none did
    last_error      TEXT,
    -- When it was put up, or replayed last, UTC
    created_at      TEXT NOT NULL,
    UNIQUE (message_id, destination)
);

CREATE INDEX events_due ON events (destination, state, next_attempt_at);

-- What keeps the order: an event waits while another of one of its lanes has a smaller number.
-- Only waiting events have rows here.

CREATE TABLE event_lanes (
    -- Of destination and mailbox (or address, where no mailbox holds the mail): SHA-256, 32 digits
    lane     TEXT NOT NULL,
    -- The row of events
    event_id INTEGER NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    PRIMARY KEY (lane, event_id)
) WITHOUT ROWID;

CREATE INDEX event_lanes_event_id ON event_lanes (event_id);
