"""Videos of any length and size, restored in bounded memory: `davsr restore` and `davsr polish`."""
