"""What the tests of the audit share."""

import pytest
import torch


@pytest.fixture
def same_numbers():
    """Random weights and batches are the same in every run."""
    torch.manual_seed(0)
