-- CHAR, as MariaDB keeps a hexadecimal literal of a computed column wrongly. COLLATE, as by another
-- collation REPLACE might take other characters for a line end.

ALTER TABLE messages
    ADD COLUMN /*M! IF NOT EXISTS */
    body        MEDIUMTEXT COLLATE utf8mb4_unicode_520_ci GENERATED ALWAYS AS (
        COALESCE(
            body_text,
            REPLACE(
                REPLACE(
                    CONVERT(SUBSTRING(data, body_start) USING utf8mb4) COLLATE utf8mb4_bin,
                    CHAR(13, 10 USING utf8mb4),
                    CHAR(10 USING utf8mb4)
                ),
                CHAR(13 USING utf8mb4),
                CHAR(10 USING utf8mb4)
            )
        )
    ) VIRTUAL   COMMENT 'The text a person reads, at most 65,536 characters, NULL: none; computed';
