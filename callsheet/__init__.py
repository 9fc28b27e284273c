"""Callsheet: a self-hosted media job service in which every job has exactly one owner."""

__version__ = "0.1.0"
