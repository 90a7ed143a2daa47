"""The command line: one file for a group of verbs. It parses, calls and prints; no logic."""

from benchbench.core.processes import wait_without_spinning

wait_without_spinning()  # before a verb's module imports torch
