"""The version of this workbench: `svit --version`, pyproject.toml and every recording read it here."""

__version__ = "0.1.0"
