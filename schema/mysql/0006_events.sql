-- Events for the application, written in the transaction of their message (a transactional outbox).

CREATE TABLE IF NOT EXISTS events (
    id              BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY
                    COMMENT 'In the order they were put up; never given twice',
    message_id      CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
                    COMMENT 'The row of messages',
    destination     VARCHAR(512) NOT NULL
                    COMMENT 'Whom it is for: a URL, or the name of a callable',
    state           VARCHAR(16) NOT NULL DEFAULT 'waiting'
                    COMMENT 'waiting, delivered or dead (given up: replay it, or it goes in time)',
    attempts        INT NOT NULL DEFAULT 0 COMMENT 'How often it was tried',
    next_attempt_at DATETIME(6) NOT NULL
                    COMMENT 'Not to be tried before, UTC; once delivered or dead: since when',
    claimed_by      VARCHAR(255) COMMENT 'Who is delivering it just now, NULL: nobody',
    claimed_until   DATETIME(6) COMMENT 'When that claim lapses, UTC',
    last_error      TEXT COMMENT 'Why the last attempt failed, NULL: none did',
    created_at      DATETIME(6) NOT NULL COMMENT 'When it was put up, or replayed last, UTC',
    UNIQUE KEY (message_id, destination),
    KEY events_due (destination, state, next_attempt_at),
    FOREIGN KEY (message_id) REFERENCES messages (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
  COMMENT 'What the application is still to be told';

-- What keeps the order: an event waits while another of one of its lanes has a smaller number.
-- Only waiting events have rows here.

CREATE TABLE IF NOT EXISTS event_lanes (
    lane     CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
             COMMENT 'Of destination and mailbox (or address without one): SHA-256, 32 digits',
    event_id BIGINT NOT NULL COMMENT 'The row of events',
    PRIMARY KEY (lane, event_id),
    KEY event_lanes_event_id (event_id),
    FOREIGN KEY (event_id) REFERENCES events (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
  COMMENT 'The order in which events are delivered';
