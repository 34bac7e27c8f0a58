"""What the doctor is judged by: planted faults, healthy models, and the best other tool.

``python -m benchmarks.doctor`` puts them all before `bnlib.doctor` and stores what it found in
``book/_data/doctor.json``:

- `faults`: for each rule the mistake as people make it, in two models at least, each with its
  healthy twin, the same model without the mistake;
- `healthy`: small trained models with nothing wrong, many of which look as if;
- `architectures`: timm's architectures with batch norms, at initialization;
- `rival`: the same faults before torch-audit.
"""
