"""Clips, frames, videos and training samples."""
