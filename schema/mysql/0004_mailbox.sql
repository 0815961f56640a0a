-- For people: who has which message, each mailbox a message once.
-- A user's mail stands under the user's address; mail that no user holds, under its recipient's.

CREATE OR REPLACE VIEW mailbox AS
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
