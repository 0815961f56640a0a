"""An SMTP server that lands mail in your own SQL database."""
