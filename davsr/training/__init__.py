"""The parts of `davsr.trainer`: what is learned, by which rule, on which processes, and what is written down."""
