-- A text that stands in the content as it is, is not stored a second time: it would make a message
-- of 4 KiB longer than half a page, and InnoDB then gives its content a page of its own.
--
-- This and the next are two, as no computed column is added in place together with other changes.
-- What stands between /*M! and */ is for MariaDB: a step that was cut off is run again. MySQL does
-- not know it, and would then tell of a duplicate column.

ALTER TABLE messages
    CHANGE COLUMN /*M! IF EXISTS */ body
    body_text   MEDIUMTEXT COLLATE utf8mb4_unicode_520_ci
                COMMENT 'The body where it does not end the content as it is (decoded, cut, none)',
    ADD COLUMN /*M! IF NOT EXISTS */
    body_start  INT
                COMMENT 'Where in data the body begins, its line ends not yet LF, NULL: body_text';
