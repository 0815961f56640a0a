"""Policies: whom we refuse."""
