"""What a file of weights holds, and the model that it becomes."""
