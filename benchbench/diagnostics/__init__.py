"""What is measured beside the score: gradients, features and values.

Nothing here changes a training run: random numbers come from streams of their own, gradients are
read or computed apart from ``.grad``, and a run with diagnostics ends in the same weights as one
without.
"""
