import matplotlib
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from bnlib.plots import use_style


@pytest.fixture(autouse=True)
def style():
    """Use the book's style in each test and leave neither settings nor figures behind."""
    with matplotlib.rc_context():
        use_style()
        yield
        plt.close("all")
