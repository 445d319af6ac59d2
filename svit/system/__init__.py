"""The machine below: files that are whole or absent, processes, clocks, tables as text."""
