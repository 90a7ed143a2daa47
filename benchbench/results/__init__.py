"""Results on disk: tables, checkpoints, heartbeats, failures. Nothing here is ever half-written."""
