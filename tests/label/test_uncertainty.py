"""Measures of how unsure a network is, against SciPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from nestseg.bundle.locate import find
from nestseg.label.uncertainty import Uncertainty, disagreement, entropy, measures_of
from nestseg.networks import GridUNet
from nestseg_prep.volume import Volume


def test_two_heads_disagree_as_scipy_says() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (2, 1, 3, 4, 5))
    p, q = softmax(logits, axis=2)
    expected = jensenshannon(p[0], q[0], axis=0) ** 2 / np.log(2)
    found = disagreement(list(torch.from_numpy(logits)), "softmax")
    assert found == pytest.approx(expected.mean(), rel=1e-9)


def test_heads_that_agree_on_probabilities_have_no_disagreement() -> None:
    logits = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    assert disagreement([logits, logits + 5, logits], "softmax") == pytest.approx(0, abs=1e-6)
    # Where all labels are the same the probabilities still differ: labels alone would hide it.
    assert disagreement([logits, logits * 3], "softmax") > 0.001


def test_entropy_is_scipys() -> None:
    logits = np.random.default_rng(1).normal(0, 2, (3, 1, 4, 5, 5))
    mean = softmax(logits, axis=2).mean(axis=0)[0]
    expected = scipy_entropy(mean, axis=0).mean() / np.log(4)
    found = entropy(list(torch.from_numpy(logits)), "softmax")
    assert found == pytest.approx(expected, rel=1e-9)


def test_entropy_with_a_sigmoid() -> None:
    assert entropy([torch.zeros(1, 1, 4, 4)], "sigmoid") == pytest.approx(1)
    assert entropy([torch.full((1, 1, 4, 4), 50.0)], "sigmoid") == pytest.approx(0, abs=1e-9)


def test_what_a_network_can_be_asked() -> None:
    features = (2, 3, 4)
    unetpp = GridUNet(features=features, topology="unet++")
    ensemble = GridUNet(features=features, topology="unet_e")
    assert measures_of(unetpp) == ("head_disagreement", "entropy")
    assert measures_of(ensemble) == ("ensemble_disagreement", "entropy")
    assert measures_of(GridUNet(features=features)) == ("entropy",)
    assert measures_of(torch.nn.Conv2d(1, 2, 3)) == ("entropy",)


def test_a_bundle_measures_in_one_pass() -> None:
    noise = np.random.default_rng(2).normal(size=(24, 30, 26)).astype(np.float32)
    found = Uncertainty(find("hippocampus_unetpp")).measure(Volume(noise, np.eye(4)))
    assert set(found) == {"head_disagreement", "entropy"}
    assert all(0 < value < 1 for value in found.values())
