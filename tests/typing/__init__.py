"""Read by mypy and pyright, run by nobody: what must type-check, and what both must refuse.

A refused line carries both checkers' codes; an ignore that ignores nothing is an error of either.
"""
