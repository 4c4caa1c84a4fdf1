"""`python -m training` is nst-train, for torchrun: `torchrun --nproc-per-node N -m training PICTURE ...`."""

from training.command import nst_train

nst_train()
