-- Mail for addresses elsewhere, written in the transaction of its message.

CREATE TABLE IF NOT EXISTS queue (
    id              BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY
                    COMMENT 'Never given twice: who claims a row must not meet another under it',
    message_id      CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
                    COMMENT 'The row of messages',
    address         TEXT NOT NULL COMMENT 'Where it goes',
    domain          VARCHAR(512) NOT NULL
                    COMMENT 'The domain of that address, lower case, as A-label',
    recipient       TEXT NOT NULL COMMENT 'The accepted forward-path it comes from',
    parameters      TEXT NOT NULL COMMENT 'The parameters of that RCPT, as given',
    state           VARCHAR(16) NOT NULL DEFAULT 'waiting' COMMENT 'waiting, sent or failed',
    attempts        INT NOT NULL DEFAULT 0 COMMENT 'How often it was tried to an end',
    next_attempt_at DATETIME(6) NOT NULL COMMENT 'Not to be tried before, UTC',
    claimed_by      VARCHAR(255) COMMENT 'Who is trying just now, NULL: nobody',
    claimed_until   DATETIME(6) COMMENT 'When that claim lapses, UTC, NULL: no claim',
    delay_reported  TINYINT NOT NULL DEFAULT 0
                    COMMENT '1: the sender was told that it takes longer' CHECK (delay_reported IN (0, 1)),
    last_reply      TEXT
                    COMMENT 'What the next hop said, or why it could not be asked, NULL: not tried',
    created_at      DATETIME(6) NOT NULL COMMENT 'UTC',
    KEY queue_due (state, next_attempt_at),
    KEY queue_message_id (message_id),
    FOREIGN KEY (message_id) REFERENCES messages (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
  COMMENT 'Mail for addresses elsewhere';
