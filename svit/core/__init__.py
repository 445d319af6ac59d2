"""What everything speaks of: types, settings, the catalogue of methods, compute, codes of masks. No torch."""
