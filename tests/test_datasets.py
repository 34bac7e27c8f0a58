import random
import subprocess
import sys

import numpy as np
import pytest

from bnlib import datasets
from bnlib.datasets import photos

BLOCK_TORCH = """
import sys


class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("torch is blocked in this test", name=name)


sys.meta_path.insert(0, NoTorch())
"""  # SciPy trips over `sys.modules["torch"] = None`

LOADERS = {
    "digits": lambda **options: datasets.digits(**options),
    "mnist_subset": lambda **options: datasets.mnist_subset(**options),
    "mnist1d": lambda **options: datasets.mnist1d(**options),
    "two_moons": lambda **options: datasets.two_moons(30, 21, rng=5, **options),
    "circles": lambda **options: datasets.circles(30, 21, rng=5, **options),
    "spirals": lambda **options: datasets.spirals(30, 21, rng=5, **options),
    "photo_patches": lambda **options: datasets.photo_patches(30, 21, size=6, rng=5, **options),
}
SHAPES = {
    "digits": ((1400, 64), (397, 64)),
    "mnist_subset": ((4000, 1, 28, 28), (1000, 1, 28, 28)),
    "mnist1d": ((4000, 40), (1000, 40)),
    "two_moons": ((30, 2), (21, 2)),
    "circles": ((30, 2), (21, 2)),
    "spirals": ((30, 2), (21, 2)),
    "photo_patches": ((30, 1, 6, 6), (21, 1, 6, 6)),
}


@pytest.mark.parametrize("name", LOADERS)
def test_shapes_and_types(name):
    data = LOADERS[name]()
    assert (data.x_train.shape, data.x_test.shape) == SHAPES[name]
    assert data.y_train.shape == data.x_train.shape[:1]
    assert data.y_test.shape == data.x_test.shape[:1]
    assert data.x_train.dtype == data.x_test.dtype == np.float64
    assert data.y_train.dtype == data.y_test.dtype == np.int64


@pytest.mark.parametrize("name", LOADERS)
def test_float32_holds_the_rounded_values(name):
    data, single = LOADERS[name](), LOADERS[name](dtype=np.float32)
    assert single.x_train.dtype == single.x_test.dtype == np.float32
    np.testing.assert_array_equal(single.x_train, data.x_train.astype(np.float32))


@pytest.mark.parametrize("name", LOADERS)
def test_second_call_gives_equal_arrays_of_its_own(name):
    first = LOADERS[name]()
    expected = [array.copy() for array in first]
    for array in first:
        array[...] = 0  # must not reach a cache
    for array, value in zip(LOADERS[name](), expected, strict=True):
        np.testing.assert_array_equal(array, value)


@pytest.mark.parametrize("name", LOADERS)
def test_other_dtype_is_refused(name):
    with pytest.raises(ValueError, match="dtype: expected float64 or float32, got float16"):
        LOADERS[name](dtype=np.float16)


@pytest.mark.parametrize("load", [datasets.digits, datasets.mnist_subset])
def test_pixels_fill_the_unit_interval(load):
    data = load()
    assert data.x_train.min() == 0.0
    assert data.x_train.max() == 1.0


@pytest.mark.parametrize("load", [datasets.digits, datasets.mnist_subset])
def test_split_is_stratified(load):
    data = load(n_test=300)
    share = np.bincount(data.y_train) / len(data.y_train)
    np.testing.assert_allclose(np.bincount(data.y_test) / 300, share, atol=1 / 300)


@pytest.mark.parametrize("load", [datasets.digits, datasets.mnist_subset])
def test_seed_fixes_the_split(load):
    assert (load(seed=1).y_test != load(seed=2).y_test).any()
    assert (load(seed=1).y_test == load(seed=1).y_test).all()


def test_split_loses_no_example_and_repeats_none():
    from sklearn.datasets import load_digits

    data = datasets.digits()
    joined = np.concatenate([data.x_train, data.x_test]) * 16
    expected = load_digits().data
    np.testing.assert_array_equal(joined[np.lexsort(joined.T)], expected[np.lexsort(expected.T)])


def test_labels_stay_with_their_images():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    label_of = {row.tobytes(): label for row, label in zip(x, y, strict=True)}
    data = datasets.digits()
    for row, label in zip(data.x_test * 16, data.y_test, strict=True):
        assert label_of[row.tobytes()] == label


@pytest.mark.parametrize("name", ["digits", "mnist_subset", "photo_patches"])
def test_standardization_uses_the_training_set_only(name):
    raw, data = LOADERS[name](), LOADERS[name](standardize=True)
    mean, std = raw.x_train.mean(), raw.x_train.std()
    np.testing.assert_allclose(data.x_train.mean(), 0.0, atol=1e-12)
    np.testing.assert_allclose(data.x_train.std(), 1.0, rtol=1e-12)
    np.testing.assert_allclose(data.x_test, (raw.x_test - mean) / std, atol=1e-12)


def test_flat_is_the_same_pixels_in_another_shape():
    for load, shape in (
        (datasets.digits, (1, 8, 8)),
        (datasets.mnist_subset, (1, 28, 28)),
        (datasets.mnist1d, (1, 40)),
    ):
        flat, images = load(flat=True).x_test, load(flat=False).x_test
        assert images.shape[1:] == shape
        np.testing.assert_array_equal(images.reshape(len(images), -1), flat)


@pytest.mark.parametrize(
    ("n_test", "error"), [(9, ValueError), (1790, ValueError), (0.2, TypeError)]
)
def test_impossible_test_size_is_refused(n_test, error):
    with pytest.raises(error, match="n_test"):
        datasets.digits(n_test=n_test)


def test_mnist1d_leaves_the_global_generators_alone():
    import mnist1d.data  # noqa: F401  (importing it must not count)

    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = random.random(), np.random.random()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    datasets.mnist1d(seed=987)  # not in the cache yet
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002


def test_mnist1d_does_not_depend_on_the_global_generators():
    expected = datasets.mnist1d(seed=986).x_test
    datasets.digit_sets._generate_mnist1d.cache_clear()
    np.random.seed(3)  # noqa: NPY002
    np.testing.assert_array_equal(datasets.mnist1d(seed=986).x_test, expected)


def test_mnist1d_is_the_published_set():
    data = datasets.mnist1d()
    joined = np.concatenate([data.x_train, data.x_test])
    np.testing.assert_allclose([joined.mean(), joined.std()], [0, 1], atol=1e-12)
    assert np.bincount(np.concatenate([data.y_train, data.y_test])).tolist() == [500] * 10
    assert (data.x_train != datasets.mnist1d(seed=1).x_train).any()


@pytest.mark.parametrize("make", [datasets.two_moons, datasets.circles, datasets.spirals])
def test_toy_sets_are_balanced_and_seeded(make):
    data = make(60, 31, rng=np.random.default_rng(4))
    assert np.bincount(data.y_train).tolist() == [30, 30]
    assert abs(np.diff(np.bincount(data.y_test)).item()) == 1
    np.testing.assert_array_equal(data.x_train, make(60, 31, rng=4).x_train)
    assert (data.x_train != make(60, 31, rng=5).x_train).any()
    assert (data.x_train[:31] != data.x_test).any()


@pytest.mark.parametrize("make", [datasets.two_moons, datasets.circles, datasets.spirals])
def test_toy_sets_refuse_bad_arguments(make):
    with pytest.raises(ValueError, match="n_train: expected at least 2"):
        make(1, 10, rng=0)
    with pytest.raises(ValueError, match="noise"):
        make(10, 10, rng=0, noise=-1.0)
    with pytest.raises(TypeError, match="rng"):
        make(10, 10, rng=None)


def test_spiral_arms_without_noise_lie_half_a_turn_apart():
    data = datasets.spirals(200, 2, rng=0, noise=0.0)
    radius = np.hypot(*data.x_train.T)
    angle = np.arctan2(data.x_train[:, 1], data.x_train[:, 0])
    turned = angle - 3 * np.pi * radius - np.pi * data.y_train
    np.testing.assert_allclose(np.exp(1j * turned), 1.0, atol=1e-12)


def test_circles_refuse_a_factor_of_one():
    with pytest.raises(ValueError, match="factor"):
        datasets.circles(rng=0, factor=1.0)


@pytest.fixture
def column_photographs(monkeypatch):
    """Replace grey values by the number of the column, plus 1000 for the second photograph."""
    columns = np.broadcast_to(np.arange(640.0), (427, 640))
    monkeypatch.setattr(photos, "_read_photographs", lambda: np.stack([columns, columns + 1000]))


@pytest.mark.parametrize("size", [1, 16, 80])
def test_train_and_test_patches_share_no_column(column_photographs, size):
    data = datasets.photo_patches(600, 300, size=size, rng=0)
    train, test = (set(np.unique(x % 1000)) for x in (data.x_train, data.x_test))
    assert train
    assert test
    assert not train & test
    assert min(test) >= 160
    assert max(train) == 639


def test_patches_are_contiguous_crops_of_the_labelled_photograph(column_photographs):
    data = datasets.photo_patches(50, 50, size=7, rng=0)
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        np.testing.assert_array_equal(np.diff(x, axis=3), 1.0)
        np.testing.assert_array_equal(np.diff(x, axis=2), 0.0)
        np.testing.assert_array_equal(x[:, 0, 0, 0] >= 1000, y == 1)


def test_photo_patches_are_balanced_grey_values():
    data = datasets.photo_patches(400, 100, rng=1)
    assert np.bincount(data.y_train).tolist() == [200, 200]
    assert 0.0 <= data.x_train.min() < 0.1
    assert 0.9 < data.x_train.max() <= 1.0


def test_photo_patches_refuse_bad_sizes():
    with pytest.raises(ValueError, match="size: expected at least 1 and at most 80, got 81"):
        datasets.photo_patches(size=81, rng=0)
    with pytest.raises(TypeError, match="n_test"):
        datasets.photo_patches(n_test=2.5, rng=0)


def test_lighting_is_one_affine_map_for_the_whole_batch(rng_images):
    x = rng_images
    before = x.copy()
    y = datasets.vary_lighting(x, np.random.default_rng(0))
    np.testing.assert_array_equal(x, before)
    slope, offset = np.polyfit(x.ravel(), y.ravel(), 1)
    np.testing.assert_allclose(y, slope * x + offset, atol=1e-12)
    assert abs(slope - 1) > 1e-3
    assert abs(offset) > 1e-3


@pytest.fixture
def rng_images():
    return np.random.default_rng(8).uniform(size=(3, 5, 1, 4, 4))


def test_lighting_draws_cover_their_ranges():
    rng = np.random.default_rng(0)
    x = np.array([0.0, 1.0])
    draws = [datasets.vary_lighting(x, rng, brightness=0.3, contrast=4.0) for _ in range(2000)]
    offset, factor = np.array([(y[0], y[1] - y[0]) for y in draws]).T
    np.testing.assert_allclose([offset.min(), offset.max()], [-0.3, 0.3], atol=0.01)
    np.testing.assert_allclose([factor.min(), factor.max()], [0.25, 4.0], rtol=0.03)
    assert abs(np.log(factor).mean()) < 0.1
    assert abs(np.corrcoef(offset, factor)[0, 1]) < 0.1


def test_lighting_switched_off_changes_nothing(rng_images):
    y = datasets.vary_lighting(rng_images, np.random.default_rng(0), brightness=0, contrast=1)
    np.testing.assert_array_equal(y, rng_images)


def test_lighting_with_a_seed_axis_equals_one_seed_at_a_time(rng_images):
    def generators():
        return [np.random.default_rng(seed) for seed in range(3)]

    together = datasets.vary_lighting(rng_images, generators())
    for y, x, rng in zip(together, rng_images, generators(), strict=True):
        np.testing.assert_array_equal(y, datasets.vary_lighting(x, rng))


def test_lighting_keeps_the_dtype(rng_images):
    x = rng_images.astype(np.float32)
    for rng in (np.random.default_rng(0), [np.random.default_rng(seed) for seed in range(3)]):
        assert datasets.vary_lighting(x, rng).dtype == np.float32


def test_lighting_refuses_bad_arguments(rng_images):
    rng = np.random.default_rng(0)
    with pytest.raises(TypeError, match="x: expected floating point, got int64"):
        datasets.vary_lighting(np.arange(4), rng)
    with pytest.raises(ValueError, match="contrast"):
        datasets.vary_lighting(rng_images, rng, contrast=0.5)
    with pytest.raises(ValueError, match="brightness"):
        datasets.vary_lighting(rng_images, rng, brightness=-0.1)
    with pytest.raises(ValueError, match="x: expected a leading seed axis of 2"):
        datasets.vary_lighting(rng_images, [rng, rng])
    with pytest.raises(TypeError, match="rng"):
        datasets.vary_lighting(rng_images, 3)


@pytest.mark.parametrize("drop_last", [True, False])
def test_minibatches_cover_the_epoch(drop_last):
    batches = datasets.minibatches(10, 4, np.random.default_rng(0), drop_last=drop_last)
    assert [len(batch) for batch in batches] == ([4, 4] if drop_last else [4, 4, 2])
    indices = np.concatenate(batches)
    assert len(np.unique(indices)) == len(indices)
    assert set(indices) <= set(range(10))
    assert (np.diff(indices) != 1).any()


def test_minibatches_of_several_seeds_equal_one_seed_at_a_time():
    def generators():
        return [np.random.default_rng(seed) for seed in (3, 4)]

    together = datasets.minibatches(9, 3, generators(), drop_last=True)
    assert [batch.shape for batch in together] == [(2, 3)] * 3
    for i, rng in enumerate(generators()):
        alone = datasets.minibatches(9, 3, rng, drop_last=True)
        np.testing.assert_array_equal([batch[i] for batch in together], alone)


def test_minibatches_refuse_bad_arguments():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="batch_size: expected at least 1 and at most 10, got 11"):
        datasets.minibatches(10, 11, rng, drop_last=True)
    with pytest.raises(TypeError, match="drop_last"):
        datasets.minibatches(10, 5, rng)
    with pytest.raises(TypeError, match="rng"):
        datasets.minibatches(10, 5, 0, drop_last=True)
    with pytest.raises(TypeError, match="rng"):
        datasets.minibatches(10, 5, [], drop_last=True)


def test_import_is_cheap_and_needs_no_torch():
    code = (
        f"{BLOCK_TORCH}\n"
        "import bnlib.datasets\n"
        "heavy = {'sklearn', 'mlxtend', 'mnist1d', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "bnlib.datasets.digits(); bnlib.datasets.photo_patches(4, 4, rng=0)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
