"""Scoring nets on data."""
