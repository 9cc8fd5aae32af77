"""What a network consists of and what its numbers come from: data first, then drawn."""

from svertka.explain.summaries import Row, Summary, summary

__all__ = ["Row", "Summary", "summary"]
