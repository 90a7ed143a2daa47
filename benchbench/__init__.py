"""benchbench: which loss should train the pixel encoder of an offline RL agent?"""

__version__ = "0.1.0"
