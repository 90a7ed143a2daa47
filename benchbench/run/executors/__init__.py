"""Executors: where cells run when not on this machine alone.

An executor places cells and nothing more. Each cell runs as it does here, by ``run/local.py`` in
the job's own process; what became of it is read from the results folder, which all machines share.
"""
