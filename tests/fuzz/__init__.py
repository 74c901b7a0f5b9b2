"""Fuzzing of what strangers send: upstreams their streams and answers, clients their requests."""
