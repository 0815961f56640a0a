-- A text that stands in the content as it is, is not stored a second time.

-- SQLite would put the new name into it.
DROP VIEW mailbox;

ALTER TABLE messages RENAME COLUMN body TO
    -- The body where it does not end the content as it is (decoded, cut, or NULL: none)
    body_text;

ALTER TABLE messages ADD COLUMN
    -- Where in data the body begins, 1 being the first octet, its line ends not yet LF; NULL: body_text
    body_start INTEGER;

ALTER TABLE messages ADD COLUMN
    -- The text a person reads, decoded, at most 65,536 characters, NULL: none; computed
    body TEXT GENERATED ALWAYS AS (
        coalesce(
            body_text,
            replace(
                replace(CAST(substr(data, body_start) AS TEXT), char(13, 10), char(10)),
                char(13),
                char(10)
            )
        )
    ) VIRTUAL;

CREATE VIEW mailbox AS
SELECT box.address,
       m.id, m.received_at, m.sender, m.subject, m.date, m.body, m.msg_id, m.size,
       m.protocol, m.peer, m.helo
FROM (
    SELECT u.address, r.message_id
    FROM users u JOIN recipients r ON r.user_id = u.id
    UNION
    SELECT r.address_key, r.message_id
    FROM recipients r LEFT JOIN users u ON u.id = r.user_id
    WHERE u.id IS NULL
) box
JOIN messages m ON m.id = box.message_id;
