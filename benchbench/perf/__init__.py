"""A benchmark of benchbench itself: how fast its parts are here, and where an update's time goes.

Everything is measured in blocks that take turns, round by round, so that what the machine does
meanwhile falls on all of them alike; a figure is the median of its rounds, with the least and the
largest. What is a ratio of two figures is taken round by round.
"""
