"""The receiving side: from octets to a message handed to the store."""
