"""ESMTP extensions: one RFC, one file, a client half and a server half."""
