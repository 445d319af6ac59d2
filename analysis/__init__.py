"""Analysis of recorded runs: metrics, figures, commands and pages, all of it without torch."""
