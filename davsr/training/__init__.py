"""What is learned, by which rule, on which processes, from which samples, and what is written down: `davsr train`."""
