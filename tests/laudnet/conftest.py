"""Small networks run fastest on one thread, above all on a machine that does other things too."""

import torch

torch.set_num_threads(1)
