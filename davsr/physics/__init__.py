"""The observation model: y = A x + n, its point-spread functions and camera response, and its data step."""
