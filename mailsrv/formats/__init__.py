"""Mailboxes as files: mbox (mboxrd), Maildir, .eml. Pure: no database, no terminal."""
