"""The compiled recorder, which is left out where it cannot be built. All else is in pyproject.toml."""

from setuptools import Extension, setup

recorder = Extension("autobatch.record.compiled", ["autobatch/record/compiled.pyx"], optional=True)
setup(ext_modules=[recorder])
