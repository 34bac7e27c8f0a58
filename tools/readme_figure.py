"""Draw the README's figure: a sigmoid network with and without batch normalization, 16 seeds.

Run it from the repository: `python tools/readme_figure.py`. It writes book/_static/readme.svg and
prints the numbers that the README's caption quotes.
"""

from itertools import chain
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from bnlib.datasets import Dataset, digits, minibatches
from bnlib.layers import SGD, BatchNorm, Linear, Sequential, Sigmoid, softmax_cross_entropy, xavier
from bnlib.plots import mean_interval, plot_bands, use_style

TARGET = Path(__file__).parents[1] / "book" / "_static" / "readme.svg"
SEEDS, STEPS, BATCH_SIZE, LEARNING_RATE = 16, 1500, 60, 0.5
CLASSES, WIDTH, DEPTH = 10, 100, 3
STEPS_QUOTED = (100, 300, STEPS)
STEPS_MEASURED = np.union1d(np.geomspace(5, STEPS, 40).round().astype(int), STEPS_QUOTED)
LABELS = {"none": "without", "batch": "with batch norm"}


def network(meaning: str, features: int) -> Sequential:
    """Return 16 networks of three sigmoid layers, the same initial weights in both arms."""
    rng = [np.random.default_rng(seed) for seed in range(SEEDS)]
    layers, width = [], features
    for _ in range(DEPTH):
        layers.append(Linear(width, WIDTH, rng=rng, init=xavier))
        if meaning == "batch":
            layers.append(BatchNorm(WIDTH, seeds=SEEDS))
        layers.append(Sigmoid())
        width = WIDTH
    return Sequential(*layers, Linear(width, CLASSES, rng=rng, init=xavier))


def accuracy(net: Sequential, data: Dataset) -> np.ndarray:
    """Return the test accuracy of each seed in eval mode, shape (k,)."""
    logits = net.eval()(np.broadcast_to(data.x_test, (SEEDS, *data.x_test.shape)))
    net.train()
    return (logits.argmax(axis=-1) == data.y_test).mean(axis=-1)


def accuracies(meaning: str, data: Dataset) -> np.ndarray:
    """Train and return the accuracies at `STEPS_MEASURED`, shape (k, t)."""
    net = network(meaning, data.x_train.shape[1])
    optimizer = SGD(net, LEARNING_RATE)
    rng = [np.random.default_rng(1000 + seed) for seed in range(SEEDS)]
    n = len(data.x_train)
    epochs = range(-(-STEPS // (n // BATCH_SIZE)))
    batches = chain.from_iterable(minibatches(n, BATCH_SIZE, rng, drop_last=True) for _ in epochs)
    rows = []
    for step, batch in zip(range(1, STEPS + 1), batches, strict=False):
        _, dlogits = softmax_cross_entropy(net(data.x_train[batch]), data.y_train[batch])
        net.backward(dlogits)
        optimizer.step()
        if step in STEPS_MEASURED:
            rows.append(accuracy(net, data))
    return np.stack(rows, axis=1)


def draw(samples: dict[str, np.ndarray]) -> None:
    """Write the figure on white, so that it can be read on a page of any colour."""
    use_style()
    mpl.rcParams["svg.hashsalt"] = "readme"  # the same bytes on each run
    fig, ax = plt.subplots()
    ax.set(xscale="log", xlim=(STEPS_MEASURED[0], STEPS), ylim=(0, 1))
    ax.set(xlabel="training step", ylabel="test accuracy")
    plot_bands(ax, STEPS_MEASURED, samples, LABELS)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(TARGET, facecolor="white", metadata={"Date": None})
    plt.close(fig)


def main() -> None:
    """Train both arms, print what they reach, draw."""
    data = digits()
    samples = {meaning: accuracies(meaning, data) for meaning in LABELS}
    for meaning, rows in samples.items():
        for step in STEPS_QUOTED:
            mean, low, high = mean_interval(rows[:, list(STEPS_MEASURED).index(step)])
            print(f"{meaning:6} step {step:5}: {mean:.3f}, 95 % [{low:.3f}, {high:.3f}]")
    draw(samples)


if __name__ == "__main__":
    main()
