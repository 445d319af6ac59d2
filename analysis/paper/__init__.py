"""The paper's claims and tables, printed and measured apart."""
