-- Who may receive: users, aliases, mailing groups.
--
-- Addresses compare by address_key. Nested REPLACE folds A-Z and nothing else, as the server does
-- (lower() would fold É too, and so merge addresses), and being computed it is right for rows that
-- a person inserts by hand as well. Such rows are found when the domain is written as A-label
-- (xn--...) and the local part without needless quotes.
--
-- IF NOT EXISTS: here each statement is committed by itself, and a step that was cut off is run
-- again from its beginning.

CREATE TABLE IF NOT EXISTS users (
    id            BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY
                  COMMENT 'The mailbox; never given twice, as mail outlives its user',
    address       VARCHAR(512) NOT NULL COMMENT 'local-part@domain',
    address_key   VARCHAR(512) GENERATED ALWAYS AS (
        REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(
        REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(
        REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(address
        , 'A', 'a'), 'B', 'b'), 'C', 'c'), 'D', 'd'), 'E', 'e'), 'F', 'f')
        , 'G', 'g'), 'H', 'h'), 'I', 'i'), 'J', 'j'), 'K', 'k'), 'L', 'l')
        , 'M', 'm'), 'N', 'n'), 'O', 'o'), 'P', 'p'), 'Q', 'q'), 'R', 'r')
        , 'S', 's'), 'T', 't'), 'U', 'u'), 'V', 'v'), 'W', 'w'), 'X', 'x')
        , 'Y', 'y'), 'Z', 'z')
    ) STORED UNIQUE COMMENT 'What the address is compared by',
    name          VARCHAR(1000) NOT NULL DEFAULT '' COMMENT 'The full name, shown by VRFY and EXPN',
    password_hash VARCHAR(255)
                  COMMENT 'argon2id, as argon2-cffi writes it, NULL: cannot log in',
    forward_to    VARCHAR(512)
                  COMMENT 'The mail is queued for it, the sender is told of it (251), NULL: none',
    keep          TINYINT NOT NULL DEFAULT 0
                  COMMENT '1: the mailbox holds a copy of what is forwarded' CHECK (keep IN (0, 1)),
    moved_to      VARCHAR(512)
                  COMMENT 'An address the sender is told to try instead (551), NULL: none',
    created_at    DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)) COMMENT 'UTC'
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
  COMMENT 'Who has a mailbox here';

CREATE TABLE IF NOT EXISTS aliases (
    id            BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY COMMENT 'Gives the aliases an order',
    address       VARCHAR(512) NOT NULL
                  COMMENT 'local-part@domain, or @domain: the catch-all of the domain',
    address_key   VARCHAR(512) GENERATED ALWAYS AS (
        REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(
        REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(
        REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(address
        , 'A', 'a'), 'B', 'b'), 'C', 'c'), 'D', 'd'), 'E', 'e'), 'F', 'f')
        , 'G', 'g'), 'H', 'h'), 'I', 'i'), 'J', 'j'), 'K', 'k'), 'L', 'l')
        , 'M', 'm'), 'N', 'n'), 'O', 'o'), 'P', 'p'), 'Q', 'q'), 'R', 'r')
        , 'S', 's'), 'T', 't'), 'U', 'u'), 'V', 'v'), 'W', 'w'), 'X', 'x')
        , 'Y', 'y'), 'Z', 'z')
    ) STORED UNIQUE COMMENT 'What the address is compared by',
    target        VARCHAR(512) NOT NULL
                  COMMENT 'A user, an alias or a group here, or any address elsewhere'
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
  COMMENT 'Addresses that stand for another one';

CREATE TABLE IF NOT EXISTS mailing_groups (
    id            BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY COMMENT 'What the members refer to',
    address       VARCHAR(512) NOT NULL COMMENT 'local-part@domain',
    address_key   VARCHAR(512) GENERATED ALWAYS AS (
        REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(
        REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(
        REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(address
        , 'A', 'a'), 'B', 'b'), 'C', 'c'), 'D', 'd'), 'E', 'e'), 'F', 'f')
        , 'G', 'g'), 'H', 'h'), 'I', 'i'), 'J', 'j'), 'K', 'k'), 'L', 'l')
        , 'M', 'm'), 'N', 'n'), 'O', 'o'), 'P', 'p'), 'Q', 'q'), 'R', 'r')
        , 'S', 's'), 'T', 't'), 'U', 'u'), 'V', 'v'), 'W', 'w'), 'X', 'x')
        , 'Y', 'y'), 'Z', 'z')
    ) STORED UNIQUE COMMENT 'What the address is compared by',
    name          VARCHAR(1000) NOT NULL DEFAULT '' COMMENT 'What people call it'
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
  COMMENT 'Addresses that stand for several';

CREATE TABLE IF NOT EXISTS mailing_group_members (
    id            BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY COMMENT 'Gives the members an order',
    group_id      BIGINT NOT NULL COMMENT 'The row of mailing_groups',
    address       VARCHAR(512) NOT NULL
                  COMMENT 'A user, an alias or a group here, or any address elsewhere',
    address_key   VARCHAR(512) GENERATED ALWAYS AS (
        REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(
        REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(
        REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(address
        , 'A', 'a'), 'B', 'b'), 'C', 'c'), 'D', 'd'), 'E', 'e'), 'F', 'f')
        , 'G', 'g'), 'H', 'h'), 'I', 'i'), 'J', 'j'), 'K', 'k'), 'L', 'l')
        , 'M', 'm'), 'N', 'n'), 'O', 'o'), 'P', 'p'), 'Q', 'q'), 'R', 'r')
        , 'S', 's'), 'T', 't'), 'U', 'u'), 'V', 'v'), 'W', 'w'), 'X', 'x')
        , 'Y', 'y'), 'Z', 'z')
    ) STORED COMMENT 'What the address is compared by',
    UNIQUE KEY (group_id, address_key),
    FOREIGN KEY (group_id) REFERENCES mailing_groups (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
  COMMENT 'Who is in which mailing group';
