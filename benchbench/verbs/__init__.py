"""The verbs of the command line that are not in ``benchbench.cli``: they parse, call, print."""
