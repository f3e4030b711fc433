"""Weights as tensors, names and files; no net is needed here."""
