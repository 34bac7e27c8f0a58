"""Every public name is documented: docstring with its sections, type hints, a runnable package."""

import importlib
import inspect

import pytest

PACKAGES = [
    "bnlib.functional",
    "bnlib.layers",
    "bnlib.datasets",
    "bnlib.conventions",
    "bnlib.measure",
    "bnlib.plots",
    "bnlib.surgery",
]


def public():
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isroutine(value) or inspect.isclass(value):
                yield pytest.param(value, id=f"{package}.{name}")


@pytest.mark.parametrize("value", list(public()))
def test_docstring(value):
    text = inspect.getdoc(value) or ""
    assert len(text.splitlines()[0]) > 10
    takes = [p for p in inspect.signature(value).parameters if p not in ("self", "args", "kwargs")]
    if inspect.isfunction(value):
        assert not takes or "Parameters\n---" in text
        returns = inspect.signature(value).return_annotation
        assert returns in (None, "None") or "Returns\n---" in text


@pytest.mark.parametrize("value", list(public()))
def test_type_hints(value):
    signature = inspect.signature(value)
    for name, parameter in signature.parameters.items():
        assert parameter.annotation is not inspect.Parameter.empty, name
    if inspect.isfunction(value):
        assert signature.return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_sorted_out(package):
    module = importlib.import_module(package)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert hasattr(module, name)
