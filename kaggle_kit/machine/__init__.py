"""The machine that a run computes on: its CPUs and memory (``host``), its device and precision (``device``)."""
