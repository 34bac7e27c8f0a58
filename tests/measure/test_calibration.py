import numpy as np
import pytest

from bnlib.measure import expected_calibration_error


def by_hand(logits, labels, bins):
    """Follow the definition, bin by bin and example by example."""
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    total = 0.0
    for b in range(1, bins + 1):
        members = [
            i
            for i, row in enumerate(p)
            if (b - 1) / bins <= row.max() < b / bins or (b == bins and row.max() == 1)
        ]
        if members:
            right = np.mean([p[i].argmax() == labels[i] for i in members])
            total += len(members) / len(p) * abs(right - np.mean([p[i].max() for i in members]))
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_follows_the_definition(rng, bins):
    logits, labels = 3 * rng.standard_normal((200, 4)), rng.integers(4, size=200)
    np.testing.assert_allclose(
        expected_calibration_error(logits, labels, bins=bins), by_hand(logits, labels, bins)
    )


def test_seeds_are_kept_apart(rng):
    logits, labels = 3 * rng.standard_normal((3, 50, 4)), rng.integers(4, size=50)
    together = expected_calibration_error(logits, labels)
    assert together.shape == (3,)
    for i in range(3):
        np.testing.assert_allclose(together[i], expected_calibration_error(logits[i], labels))


@pytest.mark.parametrize(("label", "expected"), [(0, 0.0), (1, 1.0)])
def test_certainty_falls_into_the_last_bin(label, expected):
    logits, labels = np.array([[1000.0, 0.0]]), np.array([label])
    assert expected_calibration_error(logits, labels) == expected


def test_calibrated_predictions_have_a_small_error(rng):
    logits = rng.standard_normal((50_000, 3))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.uniform(size=(50_000, 1)) > p.cumsum(axis=1)).sum(axis=1)
    assert expected_calibration_error(logits, labels) < 0.02
    assert expected_calibration_error(3 * logits, labels) > 0.1


@pytest.mark.parametrize(
    ("logits", "labels", "bins", "error", "message"),
    [
        (np.zeros((3, 2)), np.zeros(3), 10, TypeError, "labels: expected integers"),
        (np.zeros((3, 2), int), np.zeros(3, int), 10, TypeError, "logits"),
        (np.zeros((3, 2)), np.zeros(2, int), 10, ValueError, r"got \(3, 2\) and \(2,\)"),
        (np.zeros(2), np.zeros(2, int), 10, ValueError, "expected shapes"),
        (np.zeros((3, 2)), np.zeros(3, int), 0, ValueError, "bins: expected at least 1"),
    ],
)
def test_bad_input_is_refused(logits, labels, bins, error, message):
    with pytest.raises(error, match=message):
        expected_calibration_error(logits, labels, bins=bins)
