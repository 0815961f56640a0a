"""The sending side: a connection to a server, and mail transactions over it."""
