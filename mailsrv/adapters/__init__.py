"""Adapters: programs written for other servers, behind ours."""
