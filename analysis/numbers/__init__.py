"""Numbers about recorded tokens: arrays and frames in, frames out."""
