"""One pass of a detector over images: recorded, measured, summed up."""
