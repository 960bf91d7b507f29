"""Exact, mergeable summaries of weights."""
