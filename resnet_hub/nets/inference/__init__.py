"""Nets that answer and do not learn: norms folded, weights packed, several steps in one kernel."""
