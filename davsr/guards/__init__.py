"""What a file, a name, a terminal or a second process may not do: bounds, names, locks, printable messages."""
