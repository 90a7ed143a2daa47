"""Rows of a finished cell."""


def rows_of(cell):
    head = {"key": cell.key, "env": cell.env, "seed": cell.seed, "variant": cell.variant}
    return {
        "cells": [{**head, "status": "done", "final_score": float(cell.seed)}],
        "evaluations": [{**head, "update": update, "returns": [1.0, 2.0]} for update in (0, 5)],
        "training": [{**head, "update": 0, "critic_loss": 1.0, "grad_cosine": None}],
        "features": [{**head, "update": 1, "row": 3, "values": [0.5, 0.25]}],
        "ledger": [{**head, "update": 0, "loss": "critic", "module": "actor", "computed": 0.0}],
    }
