"""An analytic model of our GPU kernels: tiles over multiprocessors, traffic per cache level, launches."""
