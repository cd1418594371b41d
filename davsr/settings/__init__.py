"""Where option files are found, and what older ones mean."""
