"""Run all benchmarks: ``python -m benchmarks`` (or ``make bench``)."""

from benchmarks import batch_norm, engine

for benchmark in (batch_norm, engine):
    print(f"\n{benchmark.__doc__.splitlines()[0]}\n")
    benchmark.main()
