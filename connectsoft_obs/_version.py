"""Version of the package; below all layers, so that every module can import it."""

__version__ = "0.1.0"
