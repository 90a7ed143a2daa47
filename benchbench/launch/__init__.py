"""Running a grid: what is missing, where and when each cell runs, and what becomes of it.

Every executor runs cells by the same code; only the place differs. What became of a cell is read
from the results folder.
"""
