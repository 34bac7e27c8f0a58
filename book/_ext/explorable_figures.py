"""The static figures of the explorables, in the state in which each of them starts, and their data.

They are what the page shows on paper and without JavaScript, and what a notebook shows in Jupyter.
"""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np

BANDS = Path(__file__).parents[1] / "_data" / "explorables" / "training.json"
TRAINING = {"depth": 6, "scale": 1.0, "batch": 32}
"""What `training` starts with; the figure is about each rate."""


def backward_pass(fig, ax):
    """Draw the chapter's example: the upstream gradient, and what BN passes on."""
    from bnlib.functional import batch_norm_backward, batch_norm_forward

    x, dy = np.array([[0.0], [2], [2], [8]]), np.array([[1.0], [0], [0], [3]])
    _, cache = batch_norm_forward(x, np.array([6.0]), np.array([1.0]), eps=0.0)
    dx = batch_norm_backward(dy, cache)[0]
    for side, values, meaning, label in ((-1, dy, "none", "dy"), (1, dx, "batch", "dx")):
        place = np.arange(1, 5) + 0.1 * side
        _stems(ax, place, values[:, 0], meaning)
        at = {"textcoords": "offset points", "ha": "center", "va": "center"}
        ax.annotate(label, (place[3], values[3, 0]), (14 * side, 0), **at)
    labels = [f"$x_{i}$ = {v:g}" for i, v in enumerate(x[:, 0], 1)]
    ax.set_xticks(range(1, 5), labels)
    ax.set(ylabel="gradient", ylim=(-2, 3.6))
    return (
        "The gradients of four values before and behind batch normalization. The upstream gradient "
        f"is {_list(dy)}; behind batch normalization it is {_list(dx)}, which has the sum 0."
    )


def inference(fig, ax):
    """Draw x = 3 among two sets of companions, before and after batch normalization."""
    from bnlib.functional import batch_norm_forward

    said = []
    for row, companions in enumerate(([1.0, 2, 6], [4.0, 5, 8])):
        x = np.array([[3.0, *companions]]).T
        y = batch_norm_forward(x, eps=0.0)[0][:, 0]
        ax.plot(y[1:], [row] * 3, "o", color=_color("reference"))
        ax.plot(y[0], row, "s", color=_color("batch"), markersize=9)
        ax.annotate("x = 3", (y[0], row), (0, 10), textcoords="offset points", ha="center")
        said.append(f"with the companions {', '.join(f'{v:g}' for v in companions)} at {y[0]:.2f}")
    ax.axvline(0, color=_color("reference"), linestyle=":")
    ax.set_yticks([0, 1], ["companions 1, 2, 6", "companions 4, 5, 8"])
    ax.set(xlim=(-1.5, 2), ylim=(1.5, -0.6), xlabel=r"$y = \hat{x}$ in train mode")
    return f"The same value 3 after batch normalization: {' and '.join(said)}."


def training(fig, ax):
    """Draw the accuracy after 200 steps over the rates, from the bands that the page loads too."""
    store = json.loads(BANDS.read_text("utf8"))
    rates, seeds = store["rates"], store["seeds"]
    setting = next(s for s in store["settings"] if TRAINING.items() <= s.items())
    best = {}
    for meaning, label in (("none", "none"), ("batch", "BN")):
        mean, low, high = np.array(setting["bands"][meaning])[..., -1].T / 10
        style = {"none": "-", "batch": "--"}[meaning]
        ax.plot(rates, mean, style, color=_color(meaning))
        ax.fill_between(rates, low, high, color=_color(meaning), alpha=0.2, linewidth=0)
        best[label] = f"{mean.max():.0f} % at the rate {rates[mean.argmax()]:g}"
        ax.annotate(label, (rates[4], mean[4]), (8, 4), textcoords="offset points")
    ax.axhline(75, color=_color("reference"), linestyle=":")
    ax.set(xscale="log", ylim=(0, 100), xlabel="learning rate")
    ax.set_ylabel(f"test accuracy after {store['steps'][-1]} steps, %")
    return (
        "Test accuracy against the learning rate for networks without normalization and with batch "
        f"normalization, mean and range of {seeds} seeds. Without, it is highest with "
        f"{best['none']}; with batch normalization with {best['BN']}, and it stays high at rates "
        "at which the networks without it fail."
    )


def alternatives(fig, ax):
    """Draw the images (n, c, h, w) = (3, 6, 4, 5), with the values of one mean of BN filled."""
    n, c, h, w = 3, 6, 4, 5
    x, y = [], []  # of all lines, with gaps
    for i in range(n):
        top = -i * (h + 1)
        box = [0, w, w, 0], [top, top, top - h, top - h]
        ax.fill(*box, color=_color("batch"), linewidth=0)  # channel 1
        for left in np.arange(c) * (w + 1):
            for r in range(h + 1):
                x += [left, left + w, np.nan]
                y += [top - r, top - r, np.nan]
            for q in range(w + 1):
                x += [left + q, left + q, np.nan]
                y += [top, top - h, np.nan]
    ax.plot(x, y, color=_color("reference"), linewidth=0.6)
    ax.set(xlim=(-0.5, c * (w + 1)), ylim=(0.5 - n * (h + 1), 0.5), aspect="equal")
    ax.set(xlabel="channels $c$, each with pixels $h, w$", ylabel="examples $n$")
    ax.set_xticks([j * (w + 1) + w / 2 for j in range(c)], range(1, c + 1))
    ax.set_yticks([-i * (h + 1) - h / 2 for i in range(n)], range(1, n + 1))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return (
        f"Images of {n} examples with {c} channels and {h} times {w} pixels, drawn as cells. "
        f"Filled are the {n * h * w} values of channel 1 in all examples, which share one mean in "
        "batch normalization."
    )


def forward_pass(fig, ax):
    """Draw x_hat of three values in the plane of the vectors with sum 0, for two eps."""
    from bnlib.functional import batch_norm_forward

    x, eps = np.array([[3.0], [0], [6]]), 6.0
    angle = np.pi / 2 + np.arange(3) * 2 * np.pi / 3
    plane = np.sqrt(2 / 3) * np.stack([np.cos(angle), np.sin(angle)])  # (2, 3), keeps lengths
    for end, name in zip(2.55 * (np.eye(3) - 1 / 3), "123", strict=True):
        ax.plot(*np.stack([[0, 0], plane @ end], axis=1), "-", color=_color("reference"), lw=0.8)
        ax.text(*(1.12 * plane @ end), rf"$\hat{{x}}_{name}$", ha="center", va="center")
    turn = np.linspace(0, 2 * np.pi, 100)
    lengths = []
    for each, style in ((0.0, ":"), (eps, "--")):
        x_hat = batch_norm_forward(x, eps=each)[0][:, 0]
        lengths.append(np.linalg.norm(x_hat))
        color = _color("batch" if each else "reference")
        ax.plot(*(lengths[-1] * np.stack([np.cos(turn), np.sin(turn)])), style, color=color)
        ax.plot(*(plane @ x_hat), "s", color=_color("batch"))
        side, ha = (-9, "right") if each else (9, "left")
        at = {"textcoords": "offset points", "ha": ha, "va": "center"}
        ax.annotate(rf"$\epsilon = {each:g}$", plane @ x_hat, (side, 0), **at)
    ax.set(aspect="equal", xlim=(-3, 3), ylim=(-2.1, 2.5))
    ax.set_axis_off()
    return (
        "Two circles around the origin in the plane of the vectors with sum 0, with three axes a "
        f"third of a turn apart. With eps = 0 x_hat lies on the outer one, of radius "
        f"{lengths[0]:.2f}, and with eps = {eps:g} in the same direction on the inner one, of "
        f"radius {lengths[1]:.2f}."
    )


def depth_and_signal_propagation(fig, ax):
    """Draw the gradient through 50 layers, with He's weights and with half of them."""
    from bnlib.experiments import signal_propagation

    config = signal_propagation.Config(scales=(0.5, 1.0))
    levels = signal_propagation.run(config).gradients.mean(axis=2)  # (norms, scales, depth + 1)
    said = []
    for norm, label, arm in zip(("none", "batch"), ("none", "BN"), levels, strict=True):
        for scale, level, height in zip(("half of He", "He"), arm, (-9, 9), strict=True):
            style = {"none": "-", "batch": "--"}[norm]
            passed = level[::-1] - level[-1]  # from the output to the input
            ax.plot(passed, style, color=_color(norm))
            at = {"textcoords": "offset points", "va": "center", "color": _color(norm)}
            shift = 0 if norm == "none" else height
            ax.annotate(f"{label}, {scale}", (config.depth, passed[-1]), (6, shift), **at)
            said.append(f"{passed[-1]:.1f} decades for {label}, {scale}")
    ax.set(xlabel="layers passed backward", ylabel="log10 of RMS of the gradient")
    ax.set_xlim(0, 1.25 * config.depth)
    ax.set_xticks(range(0, config.depth + 1, 10))
    return (
        f"Root mean square of the gradient over {config.depth} ReLU layers passed backward, mean "
        f"of {config.seeds} seeds. It changes by {'; '.join(said)}."
    )


FIGURES = {
    draw.__name__: draw
    for draw in (
        backward_pass,
        training,
        inference,
        alternatives,
        forward_pass,
        depth_and_signal_propagation,
    )
}


@lru_cache
def svg(name: str) -> str:
    """Draw the static figure of an explorable, as an `<svg>` with its alternative text."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from bnlib.plots.show import render

    with plt.style.context("bnlib.plots.bnlib"):
        fig, ax = plt.subplots()
        alt = FIGURES[name](fig, ax)
        return render(fig, f"explorable-{name.replace('_', '-')}", alt).svg


def digits() -> bytes:
    """Return the digits: pixels of all training and test images, 0 to 16, then their labels."""
    from bnlib import datasets

    data = datasets.digits()
    pixels = [(16 * x).round().astype("uint8").tobytes() for x in (data.x_train, data.x_test)]
    labels = [y.astype("uint8").tobytes() for y in (data.y_train, data.y_test)]
    return b"".join(pixels + labels)


def _stems(ax, x, values, meaning):
    from bnlib.plots import LINES, MARKERS

    ax.axhline(0, color=_color("reference"), linewidth=0.8)
    for at, value in zip(x, values, strict=True):
        ax.plot([at, at], [0, value], **LINES[meaning])
    ax.plot(x, values, MARKERS[meaning], color=_color(meaning))


def _color(meaning):
    from bnlib.plots import COLORS

    return COLORS[meaning]


def _list(values):
    return ", ".join(f"{v:.2f}".removesuffix(".00").replace("-", "\u2212") for v in values[:, 0])
