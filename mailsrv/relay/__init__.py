"""The queue at work: next hops, retries, reports (RFC 5321 §4.5.4, RFC 3461, RFC 3464)."""
