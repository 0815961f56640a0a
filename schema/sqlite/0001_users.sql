-- Who may receive: users, aliases, mailing groups.
--
-- Addresses compare by address_key. lower() folds A-Z and nothing else here, as the server does,
-- and being computed it is right for rows that a person inserts by hand too. Such rows are found
-- when the domain is written as A-label (xn--...) and the local part without needless quotes.

CREATE TABLE users (
    -- The mailbox. AUTOINCREMENT: an id is never given twice, as mail outlives its user
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    -- local-part@domain
    address       TEXT NOT NULL,
    -- What the address is compared by
    address_key   TEXT GENERATED ALWAYS AS (lower(address)) VIRTUAL UNIQUE,
    -- The full name, shown by VRFY and EXPN
    name          TEXT NOT NULL DEFAULT '',
    -- argon2id, as argon2-cffi writes it, NULL: cannot log in
    password_hash TEXT,
    -- An address the mail is queued for, the sender is told of it (251), NULL: none
    forward_to    TEXT,
    -- 1: the mailbox holds a copy of what is forwarded
    keep          INTEGER NOT NULL DEFAULT 0 CHECK (keep IN (0, 1)),
    -- An address the sender is told to try instead (551), NULL: none
    moved_to      TEXT,
    -- UTC
    created_at    TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now'))
);

CREATE TABLE aliases (
    -- Gives the aliases an order
    id          INTEGER PRIMARY KEY,
    -- local-part@domain, or @domain: the domain's catch-all
    address     TEXT NOT NULL,
    -- What the address is compared by
    address_key TEXT GENERATED ALWAYS AS (lower(address)) VIRTUAL UNIQUE,
    -- The address it stands for: a user, an alias or a group here, or any address elsewhere
    target      TEXT NOT NULL
);

CREATE TABLE mailing_groups (
    -- What the members refer to
    id          INTEGER PRIMARY KEY,
    -- local-part@domain
    address     TEXT NOT NULL,
    -- What the address is compared by
    address_key TEXT GENERATED ALWAYS AS (lower(address)) VIRTUAL UNIQUE,
    -- What people call it
    name        TEXT NOT NULL DEFAULT ''
);

CREATE TABLE mailing_group_members (
    -- Gives the members an order
    id          INTEGER PRIMARY KEY,
    -- The row of mailing_groups
    group_id    INTEGER NOT NULL REFERENCES mailing_groups (id) ON DELETE CASCADE,
    -- The member: a user, an alias or a group here, or any address elsewhere
    address     TEXT NOT NULL,
    -- What the address is compared by
    address_key TEXT GENERATED ALWAYS AS (lower(address)) VIRTUAL,
    UNIQUE (group_id, address_key)
);
