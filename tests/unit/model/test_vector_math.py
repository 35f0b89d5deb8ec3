"""The first call of a vector math function is as accurate as every other, however many threads make it together."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

_STARTS = 8 if os.environ.get("CI") else 3  # about one in three goes wrong where nothing is settled
_FIRST_CALL = """
import torch
from framework.model.loss_model import LossModel

class Model(LossModel):
    def forward(self, input_ids, targets):
        return self.transformer(input_ids)

torch.set_num_threads(2)
numbers = torch.linspace(-3, 3, 1 << 15)  # a share of more than one vector for each of the two threads
model = Model(torch.nn.Tanh())
for _ in range(20):
    numbers + numbers  # both threads are awake by now, as in a training
print(torch.equal(model(numbers, numbers), model(numbers, numbers)))
"""


@pytest.mark.slow
def test_the_first_call_gives_what_the_second_gives() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(_STARTS):
        told = subprocess.run(
            [sys.executable, "-c", _FIRST_CALL], env=environment, capture_output=True, text=True, check=True
        )
        assert told.stdout == "True\n"
