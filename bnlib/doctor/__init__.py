"""Find faults of the batch norms in a PyTorch model: what is wrong, by which number, what to do."""

from bnlib._extras import require

require("torch", extra="torch")

from bnlib.doctor.examine import assert_healthy, examine
from bnlib.doctor.finding import Finding
from bnlib.doctor.record import Record
from bnlib.doctor.registry import Rule, all_rules, explain
from bnlib.doctor.report import NormRow, Report
from bnlib.doctor.watch import watch

__all__ = [  # noqa: RUF022 - by task, which is the order of the API page
    "examine",
    "watch",
    "assert_healthy",
    "Report",
    "Finding",
    "NormRow",
    "Record",
    "all_rules",
    "Rule",
    "explain",
]
