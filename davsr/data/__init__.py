"""Clips: frames in folders, videos and stores, read in one way."""
