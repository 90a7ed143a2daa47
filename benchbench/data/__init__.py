"""Offline data: identities, makers of each source, the store, and batches drawn from it."""
