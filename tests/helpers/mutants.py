"""Wrong implementations: each is one edit of the library that some test must notice.

`tests/test_mutants.py` swaps each in and runs the checks; `tests/book/test_chapters.py` runs each
chapter's notebook against a library broken by one of them.
"""

import importlib
import pathlib
import sys
import types
from dataclasses import dataclass

import bnlib

ROOT = pathlib.Path(bnlib.__file__).parents[1]


@dataclass(frozen=True)
class Mutant:
    """One edit: in `file`, `old` (found exactly once) becomes `new`."""

    name: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]  # checks of test_mutants.py
    chapters: tuple[str, ...] = ()  # notebooks that must fail: those that teach it

    @property
    def path(self) -> pathlib.Path:
        return pathlib.Path("bnlib") / self.file

    def source(self) -> str:
        """Return the file's text with the edit made."""
        text = (ROOT / self.path).read_text("utf8")
        if text.count(self.old) != 1:
            raise LookupError(f"{self.name}: found {text.count(self.old)} times: {self.old!r}")
        return text.replace(self.old, self.new)

    def swap_in(self, monkeypatch) -> None:
        """Replace, everywhere in bnlib, what the file defines by what the edited file defines."""
        name = ".".join(self.path.with_suffix("").parts)
        original = importlib.import_module(name)
        broken = types.ModuleType(name)
        exec(compile(self.source(), self.path.name, "exec"), vars(broken))
        swaps = {
            id(old): vars(broken)[key]
            for key, old in vars(original).items()
            if getattr(old, "__module__", None) == name and key in vars(broken)
        }
        for module in [m for n, m in sys.modules.items() if n.split(".")[0] == "bnlib"]:
            for key, value in list(vars(module).items()):
                if id(value) in swaps:
                    monkeypatch.setattr(module, key, swaps[id(value)])


KERNEL = "functional/standardize.py"
BATCH = "functional/batch_norm.py"
INFERENCE = "functional/batch_norm_inference.py"
CHECK = "_validation.py"
DEFINITION = "nn/_cpu/definition.py"
RUNNING = "functional/running_statistics.py"
AFFINE = "functional/_normalize.py"
INTERVAL = "measure/interval.py"
VERDICT = "experiments/records/verdict.py"
FOLD = "surgery/_algebra.py"
MOMENTS = "surgery/_moments.py"
CONVENTIONS = "conventions.py"
LOSSES = "layers/losses.py"
LINEAR = "layers/linear.py"
HALVES = "layers/half_batch_norms.py"
FREEZE = "surgery/freeze.py"  # tests/surgery/test_freeze.py checks it
SYNC = "nn/_sync.py"  # tests/nn/test_sync_batch_norm.py checks it, in several processes

MUTANTS = [
    Mutant(
        "variance path dropped",
        KERNEL,
        "np.multiply(x_view[i, j], -b[i], out=d)",
        "d[...] = 0",
        ("backward", "numeric_gradient"),
        ("backward_pass", "learning_rate_and_convergence"),
    ),
    Mutant(
        "mean path dropped",
        KERNEL,
        "            d -= a[i]\n",
        "            pass\n",
        ("backward", "numeric_gradient"),
    ),
    Mutant(
        "statistics detached",
        KERNEL,
        "        np.multiply(x_view[i, j], -b[i], out=d)\n"
        "        d += g_view[i, j]\n"
        "        if center:\n"
        "            d -= a[i]\n",
        "        d[...] = g_view[i, j]\n",
        ("backward", "numeric_gradient"),
    ),
    Mutant(
        "backward returns zeros",
        KERNEL,
        "        d *= s[i]\n",
        "        d *= 0\n",
        ("backward", "numeric_gradient"),
        ("backward_pass",),
    ),
    Mutant(
        "projector of a norm without mean",
        KERNEL,
        "center=center)[0]",
        "center=False)[0]",
        ("standardize_backward",),
    ),
    Mutant(
        "E[x^2] - E[x]^2",
        KERNEL,
        "    var = square / count\n",
        "    raw = block_dot(x.astype(d.dtype), x.astype(d.dtype)) / count\n"
        "    return mean, np.maximum(raw - mean**2, 0)\n"
        "    var = square / count\n",
        ("large_mean",),
    ),
    Mutant(
        "eps outside the root",
        KERNEL,
        "inv_std = 1 / np.sqrt(var + eps)",
        "inv_std = 1 / (np.sqrt(var) + eps)",
        ("forward",),
        ("forward_pass",),
    ),
    Mutant(
        "eps forgotten",
        KERNEL,
        "inv_std = 1 / np.sqrt(var + eps)",
        "inv_std = 1 / np.sqrt(np.maximum(var, 1e-30))",
        ("forward",),
    ),
    Mutant(
        "normalizes with the unbiased variance",
        KERNEL,
        "inv_std = 1 / np.sqrt(var + eps)",
        "inv_std = 1 / np.sqrt(var * count / max(count - 1, 1) + eps)",
        ("forward", "group_forward"),
        ("forward_pass", "motivation", "placement"),
    ),
    Mutant(
        "a constant channel is centred only almost",
        KERNEL,
        "if (mean**2 > LARGE**2 * var).any():",
        "if False:",
        ("constant_channel",),
    ),
    Mutant(
        "wrong axes",
        CHECK,
        "axis >= seeds and axis != seeds + 1",
        "axis >= seeds and axis != seeds",
        ("forward", "images"),
    ),
    Mutant(
        "seeds averaged over",
        CHECK,
        "axis >= seeds and axis != seeds + 1",
        "axis != seeds + 1",
        ("seeds",),
    ),
    Mutant(
        "spatial axes not averaged over",
        CHECK,
        "axis >= seeds and axis != seeds + 1",
        "axis == seeds",
        ("images",),
        ("convolution",),
    ),
    Mutant(
        "gamma missing in dx",
        BATCH,
        "scale = cache.inv_std if cache.gamma is None else cache.gamma * cache.inv_std",
        "scale = cache.inv_std",
        ("backward", "numeric_gradient"),
        ("backward_pass",),
    ),
    Mutant(
        "dgamma is a mean",
        BATCH,
        "like_parameter(cache.count * mean_dy_x_hat, cache.gamma)",
        "like_parameter(mean_dy_x_hat, cache.gamma)",
        ("backward", "numeric_gradient"),
    ),
    Mutant(
        "dgamma and dbeta exchanged",
        BATCH,
        "return dx, dgamma, like_parameter(cache.count * mean_dy, cache.beta)",
        "return dx, like_parameter(cache.count * mean_dy, cache.beta), dgamma",
        ("backward",),
    ),
    Mutant(
        "double backward without the path through s",
        KERNEL,
        "dx = s_Pv - s * x_hat * (g * s_Pu).mean(axes, keepdims=True)",
        "dx = s_Pv",
        ("double_backward",),
    ),
    Mutant(
        "double backward without ddgamma",
        BATCH,
        "        dx = dx + standardize_backward(ddgamma.reshape(shape) * dy, z)\n",
        "",
        ("double_backward",),
    ),
    Mutant(
        "inference without beta",
        INFERENCE,
        "return scale_and_shift(x_hat, gamma, beta, shape).astype",
        "return scale_and_shift(x_hat, gamma, None, shape).astype",
        ("inference",),
    ),
    Mutant(
        "inference looks at the batch",
        INFERENCE,
        "x_hat = (x - mean.astype(dtype).reshape(shape)) * inv_std",
        "x_hat = (x - x.mean(axes, keepdims=True)) * inv_std",
        ("inference", "consistent"),
        ("inference",),
    ),
    Mutant(
        "backward of train mode in eval mode",
        INFERENCE,
        "dx = (dx_hat * inv_std).astype",
        "dx = ((dx_hat - dx_hat.mean(0)) * inv_std).astype",
        ("inference_backward",),
        ("inference",),
    ),
    Mutant(
        "running variance biased",
        RUNNING,
        "correction = n / (n - 1) if unbiased else 1.0",
        "correction = 1.0",
        ("running",),
        ("inference",),
    ),
    Mutant(
        "momentum reversed",
        RUNNING,
        'weight = momentum if momentum_weighs == "new" else 1 - momentum',
        'weight = 1 - momentum if momentum_weighs == "new" else momentum',
        ("running",),
    ),
    Mutant(
        "one direction of the momentum",
        RUNNING,
        'weight = momentum if momentum_weighs == "new" else 1 - momentum',
        "weight = momentum",
        ("old_momentum",),
    ),
    Mutant(
        "cumulative average off by one",
        RUNNING,
        "weight = 1 / (self.count + 1)",
        "weight = 1 / (self.count + 2)",
        ("cumulative",),
    ),
    Mutant(
        "running statistics take in a NaN",
        RUNNING,
        "        if not np.isfinite(array).all():",
        "        if False:",
        ("poisoned_batch",),
    ),
    Mutant(
        "gamma and beta left out in layer norm's gradient",
        AFFINE,
        "dx_hat = scale_and_shift(dy, gamma, None, shape)",
        "dx_hat = scale_and_shift(dy, None, None, shape)",
        ("layer_backward",),
    ),
    Mutant(
        "groups of channels interleaved",
        "functional/group_norm.py",
        "grouped = x.reshape(*x.shape[: seeds + 1], num_groups, width, *x.shape[seeds + 2 :])",
        "grouped = x.reshape(*x.shape[: seeds + 1], width, num_groups, *x.shape[seeds + 2 :])"
        ".swapaxes(seeds + 1, seeds + 2)",
        ("group_forward",),
        ("alternatives",),
    ),
    Mutant(
        "RMS norm subtracts the mean",
        "functional/rms_norm.py",
        "center=False",
        "center=True",
        ("rms_forward",),
        ("alternatives",),
    ),
    Mutant(
        "eval mode of the layer uses the batch",
        "layers/batch_norm.py",
        "if not self.training:",
        "if False:",
        ("layer_modes",),
    ),
    Mutant(
        "the ReLU's gradient passes everywhere",
        "layers/activations.py",
        "dx = (y > 0).astype(dy.dtype)",
        "dx = np.ones_like(dy)",
        ("relu",),
        ("depth_and_signal_propagation",),
    ),
    Mutant(
        "interval of the normal distribution",
        INTERVAL,
        "stats.t.ppf((1 + confidence) / 2, k - 1)",
        "stats.norm.ppf((1 + confidence) / 2)",
        ("coverage",),
    ),
    Mutant(
        "one-sided interval",
        INTERVAL,
        "stats.t.ppf((1 + confidence) / 2, k - 1)",
        "stats.t.ppf(confidence, k - 1)",
        ("coverage",),
    ),
    Mutant(
        "interval from the biased standard deviation",
        INTERVAL,
        "samples.std(axis=0, ddof=1)",
        "samples.std(axis=0)",
        ("coverage",),
    ),
    Mutant(
        "arms not paired",
        VERDICT,
        "Between(treatment.low - control.high, treatment.high - control.low)",
        "Between(*(treatment.low - np.roll(control.low, 1) for _ in range(2)))",
        ("coverage",),
    ),
    Mutant(
        "dropout does not rescale what it keeps",
        "layers/dropout.py",
        "        mask *= 1 / (1 - self.p)\n",
        "",
        ("dropout",),
    ),
    Mutant(
        "calibration error without absolute values",
        "measure/calibration.py",
        "np.abs(sums.reshape(*z.shape[:-2], bins)).sum(axis=-1)",
        "sums.reshape(*z.shape[:-2], bins).sum(axis=-1)",
        ("calibration",),
        ("regularization",),
    ),
    Mutant(
        "covariate shift with the step of the layer itself",
        "measure/covariate_shift.py",
        "if _number(name) < i}",
        "if _number(name) <= i}",
        ("covariate_shift",),
        ("internal_covariate_shift",),
    ),
    Mutant(
        "folding forgets eps",
        FOLD,
        "scale = (norm.running_var.double() + norm.eps).rsqrt()",
        "scale = norm.running_var.double().rsqrt()",
        ("fold_after", "fold_before"),
        ("folding_and_deployment",),
    ),
    Mutant(
        "folding does not scale the bias",
        FOLD,
        "shift + scale * bias)",
        "shift + bias)",
        ("fold_after",),
    ),
    Mutant(
        "folding mixes up the groups of a transposed convolution",
        FOLD,
        "factor = _along(scale.view(layer.groups, 1, -1), grouped.dim())",
        "factor = _along(scale.view(-1, layer.groups).T[:, None], grouped.dim())",
        ("fold_after",),
    ),
    Mutant(
        "folding overlooks the zeros at the border",
        FOLD,
        "    if shift.any():\n",
        "    if False:\n",
        ("fold_border",),
    ),
    Mutant(
        "folding before a layer loses the shift",
        FOLD,
        "added = (taps * shift.view(shape))",
        "added = 0 * (taps * shift.view(shape))",
        ("fold_before",),
    ),
    Mutant(
        "recalibration averages batches without their counts",
        MOMENTS,
        "        self.merge(count, mean, m2)\n",
        "        self.merge(1, mean, m2 / count)\n",
        ("recalibrate",),
    ),
    Mutant(
        "recalibration forgets the variance between batches",
        MOMENTS,
        "self.m2 = self.m2 + m2 + self._products(delta) * (self.count * count / total)",
        "self.m2 = self.m2 + m2",
        ("recalibrate",),
        ("folding_and_deployment", "debugging", "recipes"),
    ),
    Mutant(
        "train() thaws a frozen norm",
        FREEZE,
        "    batch_norm.train = functools.partial(_stay_in_eval_mode, batch_norm, turned_off)\n",
        "",
        (),
        ("fine_tuning_and_freezing",),
    ),
    Mutant(
        "recalibration stores the biased variance",
        MOMENTS,
        "self.count - 1 if unbiased else self.count",
        "self.count",
        ("recalibrate",),
    ),
    Mutant(
        "batch renormalization learns through its corrections",
        "nn/batch_renorm.py",
        "        with torch.no_grad():\n            std",
        "        axes = definition.channel_axes(x)\n"
        "        x_hat, mean, var = definition.standardize(x, axes, self.eps)\n"
        "        mean, var = mean.flatten(), var.flatten()\n"
        "        if True:\n            std",
        ("renorm",),
    ),
    Mutant(
        "the remainder is a ghost batch of its own",
        "nn/ghost_batch_norm.py",
        "input.tensor_split(number)",
        "input.split(self.ghost_size)",
        ("ghost",),
    ),
    Mutant(
        "whitening by principal axes",
        "nn/_inverse_root.py",
        "return (vectors * values.rsqrt().unsqueeze(-2)) @ vectors.mT",
        "return (vectors * values.rsqrt().unsqueeze(-2)).mT",
        ("whitening",),
    ),
    Mutant(
        "gradient of the cross entropy without the true class",
        LOSSES,
        "    p[truth] -= 1\n",
        "",
        ("cross_entropy",),
        ("a_network_learns",),
    ),
    Mutant(
        "gradient of the cross entropy summed over the mini-batch",
        LOSSES,
        "    p /= m\n",
        "",
        ("cross_entropy",),
        ("a_network_learns",),
    ),
    Mutant(
        "gradient of the bias is a mean",
        LINEAR,
        "np.ones(dy.shape[-2], dy.dtype) @ dy",
        "dy.mean(axis=-2)",
        ("linear",),
        ("a_network_learns",),
    ),
    Mutant(
        "centring with a detached mean",
        HALVES,
        "return g - g.mean(axis=axes, keepdims=True) if statistics else g",
        "return g",
        ("mean_only",),
        ("centring_and_scaling",),
    ),
    Mutant(
        "scaling with a detached root mean square",
        HALVES,
        "return F.standardize_backward(g, statistics)",
        "return statistics.inv_std * g",
        ("scale_only",),
        ("centring_and_scaling",),
    ),
    Mutant(
        "scaling that centres, too",
        HALVES,
        "eps=self.eps, center=False",
        "eps=self.eps, center=True",
        ("scale_only",),
        ("centring_and_scaling",),
    ),
    Mutant(
        "conversion copies the momentum",
        CONVENTIONS,
        'momentum = weight if new.momentum_weighs == "new" else _complement(weight)',
        "momentum = weight",
        ("conversion",),
    ),
    Mutant(
        "conversion forgets eps",
        CONVENTIONS,
        "new.eps_name: eps}",
        "new.eps_name: new.eps}",
        ("conversion",),
        ("conventions",),
    ),
    Mutant(
        "conversion rescales the variance the wrong way",
        CONVENTIONS,
        "{(True, False): (m - 1) / m, (False, True): m / (m - 1)}",
        "{(True, False): m / (m - 1), (False, True): (m - 1) / m}",
        ("conversion",),
    ),
    Mutant(
        "conversion rescales the start of the variance too",
        CONVENTIONS,
        "start = 0.0 if steps is None else START * (1 - weight) ** steps",
        "start = 0.0",
        ("conversion",),
        ("conventions",),
    ),
    Mutant(
        "variance between the processes left out",
        SYNC,
        "n * (var + distance**2)",
        "n * var",
        (),
        ("beyond_one_machine",),
    ),
    Mutant(
        "each process centred by its own mean, where nothing is compiled",
        SYNC,
        "mean = AllReduce.apply(x.sum(axes, keepdim=True), group) / count",
        "mean = x.mean(axes, keepdim=True)",
        (),
        ("recipes",),
    ),
    Mutant(
        "backward pass of each process by itself",
        SYNC,
        "total = all_reduce(sums, ctx.group)",
        "total = sums",
        (),
        ("beyond_one_machine",),
    ),
    Mutant(
        "torch modules: gradient without the mean of g",
        DEFINITION,
        "(g - mean_g - x_hat * mean_g_x_hat)",
        "(g - x_hat * mean_g_x_hat)",
        ("nn_gradients",),
    ),
    Mutant(
        "torch modules: what rounding left in the mean stays",
        DEFINITION,
        "difference = difference - left",
        "difference = difference - 0 * left",
        ("nn_constant",),
    ),
    Mutant(
        "torch's operation: the unbiased variance taken for the biased one",
        "nn/_cpu/dispatch.py",
        "momentum = 1 - x.shape[1] / x.numel()",
        "momentum = 1.0",
        ("nn_running",),
    ),
    Mutant(
        "torch module: running variance biased",
        "nn/_running.py",
        "correction = count / (count - 1)",
        "correction = 1.0",
        ("nn_running",),
    ),
    Mutant(
        "torch instance norm: running variance biased",
        "nn/instance_norm.py",
        "var.view(n, c).mean(0) * (count / (count - 1))",
        "var.view(n, c).mean(0)",
        ("nn_instance_running",),
    ),
]
