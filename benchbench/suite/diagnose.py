"""What a suite measures beside the score, and what it keeps beside its tables."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict

from benchbench.core.settings import LARGEST, Count, Index, Number, Settings


class DiagnoseSettings(Settings):
    """What is measured beside the score; it never changes the training."""

    LATER = frozenset({"probe_on"})

    signals_every: Count = Field(
        500, description="updates between samples of losses and gradient norms"
    )
    holdout: Annotated[Number, Field(gt=0, lt=0.5)] = Field(
        0.1, description="share of the data set's episodes kept from training for probes and errors"
    )
    probe_frames: Annotated[int, Strict(), Field(ge=200, le=LARGEST)] = Field(
        2_000, description="held-out frames on which probes are fitted"
    )
    probe_on: Literal["training", "held-out"] = Field(
        "training",
        description="the frames on which probes are fitted. held-out: one half of the held-out "
        "episodes, and scored on the other, so that no encoder has trained on either; R² is then "
        "over the variance of the whole data set, and not of a pair's own held-out rows",
    )
    q_pairs: Index = Field(
        32,
        description="held-out states and actions from which the policy is played on, for the true "
        "value of Q; 0: off",
    )
    q_horizon: Count = Field(
        400, description="steps of each of these roll-outs; at discount 0.99, 2 % is left out"
    )
    q_every: Count = Field(
        10, description="evaluations between these roll-outs; the last one always has them"
    )
    oracle_updates: Index = Field(
        2_000,
        description="updates of the reference encoder that is trained on the simulator's state, "
        "once for each data set and encoder; 0: off",
    )


class KeepSettings(Settings):
    """What is kept beside the tables; it shapes no cell, so cells keep their keys."""

    policies: Annotated[bool, Strict()] = Field(
        True, description="the weights of every finished cell, to be loaded, exported and filmed"
    )
    films: Annotated[bool, Strict()] = Field(
        True,
        description="after a run, a short film of an episode: the compared variants side by side "
        "from the same start, on the first seed of each environment",
    )
