"""The gradient audit: which loss's gradient reaches which module of a torch loop, and its fate.

Imports nothing of the project, so that it can audit anyone's loop.
"""
