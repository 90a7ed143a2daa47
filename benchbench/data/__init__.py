"""Offline data: identities, recipes, the store, and batches drawn from it."""
