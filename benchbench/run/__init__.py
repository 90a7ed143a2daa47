"""Running cells: devices, processes, and results that are never half-written."""
