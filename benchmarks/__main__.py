"""Run all benchmarks: ``python -m benchmarks`` (or ``make bench``)."""

from benchmarks import batch_norm, nn, training

for benchmark in (batch_norm, training, nn):
    print(f"\n{benchmark.__doc__.splitlines()[0]}\n")
    benchmark.main()
