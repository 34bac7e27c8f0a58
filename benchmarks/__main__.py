"""Run all benchmarks: ``python -m benchmarks`` (or ``make bench``)."""

from benchmarks import batch_norm, engine, nn

for benchmark in (batch_norm, engine, nn):
    print(f"\n{benchmark.__doc__.splitlines()[0]}\n")
    benchmark.main()
