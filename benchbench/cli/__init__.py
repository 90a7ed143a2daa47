"""The command line: one file for a group of verbs. It parses, calls and prints; no logic."""
