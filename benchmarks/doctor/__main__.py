"""Judge the doctor: ``python -m benchmarks.doctor`` (in .venv-architectures for timm and rival)."""

import argparse
import os
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("BNLIB_KERNEL", "torch")  # nothing here is worth compiling


def main() -> None:
    from benchmarks.doctor import table

    parser = argparse.ArgumentParser(prog="python -m benchmarks.doctor", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(table.PARTS)}; all if none")
    parser.add_argument("--store", type=Path, default=table.PATH)
    parser.add_argument("--minutes", type=float, default=30.0, help="for each part")
    parser.add_argument("--show", action="store_true", help="print what is stored, and no more")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(table.PARTS)
    if unknown:
        parser.error(f"parts: expected some of {', '.join(table.PARTS)}, got {', '.join(unknown)}")
    if not arguments.show:
        table.fill_all(arguments.store, arguments.parts or table.PARTS, arguments.minutes)
    print(table.report(table.load(arguments.store)))


if __name__ == "__main__":
    main()
