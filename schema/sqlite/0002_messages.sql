-- Mail: a message, its parts and its recipients are written in one transaction.
-- Large columns stand last, so that lists read no content.

CREATE TABLE messages (
    -- 26 characters (ULID), time-ordered, given by the server before the insert, in its 250 reply
    id          TEXT PRIMARY KEY NOT NULL,
    -- The end of the data, UTC, YYYY-MM-DD HH:MM:SS.ffffff
    received_at TEXT NOT NULL,
    -- The reverse-path, '' for <>
    sender      TEXT NOT NULL,
    -- Octets in all
    size        INTEGER NOT NULL,
    -- SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA, LMTP ... (RFC 3848)
    protocol    TEXT NOT NULL,
    -- The client's IP address, '' on a UNIX socket
    peer        TEXT NOT NULL,
    -- What the client called itself
    helo        TEXT NOT NULL,
    -- The parameters of MAIL, as given
    parameters  TEXT NOT NULL,
    -- SHA-256 of the exact octets, hexadecimal
    sha256      TEXT NOT NULL,
    -- The Date field, UTC, NULL: missing or not to be read
    date        TEXT,
    -- The Message-ID field, for threads and, with sha256, to know a repeated message
    msg_id      TEXT,
    -- Decoded, at most 1,000 characters, NULL: missing
    subject     TEXT,
    -- The Return-Path and Received lines, put in front when the message is handed out
    trace       TEXT NOT NULL,
    -- The text a person reads, decoded, at most 65,536 characters, NULL: none
    body        TEXT,
    -- The message's octets, the first 1 MiB of them; size tells whether more follow
    data        BLOB NOT NULL
);

CREATE INDEX messages_received_at ON messages (received_at);

CREATE TABLE message_parts (
    -- The row of messages
    message_id TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    -- 1, 2, 3 ... in the order of the octets
    seq        INTEGER NOT NULL,
    -- The octets after the first 1 MiB, 1 MiB a row
    data       BLOB NOT NULL,
    PRIMARY KEY (message_id, seq)
);

CREATE TABLE recipients (
    -- The row of messages
    message_id  TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    -- 1, 2, 3 ... in the order of RCPT
    seq         INTEGER NOT NULL,
    -- The row of users whose mailbox holds it, NULL: none; it outlives the user
    user_id     INTEGER,
    -- The mailbox of the forward-path as given, no brackets, no source route
    address     TEXT NOT NULL,
    -- What the address is compared by: A-Z folded, the domain as A-label
    address_key TEXT NOT NULL,
    -- The parameters of RCPT, as given
    parameters  TEXT NOT NULL,
    PRIMARY KEY (message_id, seq)
) WITHOUT ROWID;

CREATE INDEX recipients_address_key ON recipients (address_key, message_id);
CREATE INDEX recipients_user_id ON recipients (user_id, message_id) WHERE user_id IS NOT NULL;
