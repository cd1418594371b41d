"""Restored clips measured against the truth: `davsr test`."""
