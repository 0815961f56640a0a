"""The language of RFC 5321: pure values and readers, standard library only."""
