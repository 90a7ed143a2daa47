"""The shared agent, LAPO from pixels: its networks and its training step."""
