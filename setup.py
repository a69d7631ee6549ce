"""The compiled recorder, which is left out where it cannot be built. All else is in pyproject.toml."""

from setuptools import Extension, setup

SOURCE = "autobatch/record/compiled"
parts = [f"{SOURCE}_ops.pxi", f"{SOURCE}_cells.pxi", f"{SOURCE}_calls.pxi"]
recorder = Extension("autobatch.record.compiled", [f"{SOURCE}.pyx"], depends=parts, optional=True)
setup(ext_modules=[recorder])
