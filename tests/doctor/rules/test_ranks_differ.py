import doctor_processes as work
import pytest
from doctor.planted import found, mlp

from bnlib.doctor import examine
from bnlib.doctor.observe import NotPossibleError
from bnlib.doctor.rules import ranks_differ as rule
from bnlib.nn.processes import launch


@pytest.fixture(scope="module")
def results():
    """What two processes found; one start of them for all checks."""
    return launch(work.every_check, 2, timeout=240.0)


@pytest.mark.parametrize(("model", "names"), [("mlp", {"1"}), ("residual", {"b"})])
def test_own_data_are_found_with_the_gap_in_the_median_channel(results, model, names):
    means = [[mean for mean, _ in process[model, "own data"][1]] for process in results]
    for process in results:
        [(where, evidence)] = process[model, "own data"][0]
        assert set(where) == names
        assert evidence["processes"] == 2
        gaps = [
            float(((a - b).abs() / 2 / var.sqrt()).median())  # the spread of two is half of it
            for a, b, (_, var) in zip(*means, process[model, "own data"][1], strict=True)
        ]
        assert evidence["gap"] == pytest.approx(max(gaps), rel=1e-5)


@pytest.mark.parametrize("model", work.MODELS)
@pytest.mark.parametrize("healthy", ["like data", "synchronized", "recalibrated", "threshold"])
def test_like_data_and_both_cures_are_quiet(results, model, healthy):
    assert [process[model, healthy] for process in results] == [[], []]


def test_one_process_is_skipped():
    with pytest.raises(NotPossibleError, match="two processes"):
        found(rule, mlp())
    assert "two processes" in examine(mlp()).skipped["ranks-differ"]
