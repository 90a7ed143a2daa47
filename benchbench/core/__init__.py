"""What every room may use: errors, settings, atomic file writes, statistics, text tables."""
