"""What lies in folders, read back: evaluations, benchmarks, trainings."""
