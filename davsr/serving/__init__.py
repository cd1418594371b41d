"""A page to try it in a browser: `davsr serve`."""
