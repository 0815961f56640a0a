-- Mail: a message, its parts and its recipients are written in one transaction.
-- Large columns stand last, so that lists read no content.
-- Text is compared octet by octet but for subject and body, which people search in.

CREATE TABLE IF NOT EXISTS messages (
    id          CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY
                COMMENT 'ULID, time-ordered, given by the server before the insert, in its 250',
    received_at DATETIME(6) NOT NULL COMMENT 'The end of the data, UTC',
    sender      TEXT NOT NULL COMMENT 'The reverse-path, empty for <>',
    size        BIGINT NOT NULL COMMENT 'Octets in all',
    protocol    VARCHAR(255) NOT NULL
                COMMENT 'SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA, LMTP ... (RFC 3848)',
    peer        VARCHAR(255) NOT NULL COMMENT 'IP address of the client, empty on a UNIX socket',
    helo        TEXT NOT NULL COMMENT 'What the client called itself',
    parameters  TEXT NOT NULL COMMENT 'The parameters of MAIL, as given',
    sha256      CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
                COMMENT 'SHA-256 of the exact octets, hexadecimal',
    date        DATETIME(6) COMMENT 'The Date field, UTC, NULL: missing or not to be read',
    msg_id      MEDIUMTEXT
                COMMENT 'The Message-ID, for threads and, with sha256, to know a repeated message',
    subject     TEXT COLLATE utf8mb4_unicode_520_ci
                COMMENT 'Decoded, at most 1,000 characters, NULL: missing',
    trace       MEDIUMTEXT NOT NULL
                COMMENT 'The Return-Path and Received lines, put in front when it is handed out',
    body        MEDIUMTEXT COLLATE utf8mb4_unicode_520_ci
                COMMENT 'The text a person reads, at most 65,536 characters, NULL: none',
    data        MEDIUMBLOB NOT NULL
                COMMENT 'The octets, the first 1 MiB of them; size tells whether more follow',
    KEY messages_received_at (received_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
  COMMENT 'What was received';

CREATE TABLE IF NOT EXISTS message_parts (
    message_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
               COMMENT 'The row of messages',
    seq        INT NOT NULL COMMENT '1, 2, 3 ... in the order of the octets',
    data       MEDIUMBLOB NOT NULL COMMENT 'The octets after the first 1 MiB, 1 MiB a row',
    PRIMARY KEY (message_id, seq),
    FOREIGN KEY (message_id) REFERENCES messages (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
  COMMENT 'The rest of messages over 1 MiB';

CREATE TABLE IF NOT EXISTS recipients (
    message_id  CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
                COMMENT 'The row of messages',
    seq         INT NOT NULL COMMENT '1, 2, 3 ... in the order of RCPT',
    user_id     BIGINT
                COMMENT 'The row of users whose mailbox holds it, NULL: none; outlives the user',
    address     TEXT NOT NULL
                COMMENT 'The mailbox of the forward-path as given, no brackets, no source route',
    address_key VARCHAR(512) NOT NULL
                COMMENT 'What the address is compared by: A-Z folded, the domain as A-label',
    parameters  TEXT NOT NULL COMMENT 'The parameters of RCPT, as given',
    PRIMARY KEY (message_id, seq),
    KEY recipients_address_key (address_key, message_id),
    KEY recipients_user_id (user_id, message_id),
    FOREIGN KEY (message_id) REFERENCES messages (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
  COMMENT 'Who has which message';
