"""Metrics of text, diagnosis and grounding. They know no model: arrays and strings in, numbers out."""

from . import diagnosis, grounding, language

__all__ = ["diagnosis", "grounding", "language"]
