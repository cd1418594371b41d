"""Data sets from downloads, videos and folders to what training and test read: `davsr prepare`."""
