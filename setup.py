"""Builds the package; the fused step in csrc/ becomes its extension when it exists.

Everything else about the package stands in pyproject.toml.
"""

from setuptools import setup

setup()
