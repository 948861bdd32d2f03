"""Images: from a file to pixels, and from pixels to batches."""
