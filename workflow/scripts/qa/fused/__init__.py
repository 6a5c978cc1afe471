"""The fastest training on one GPU: hand-written kernels, and both passes of a step in one CUDA graph."""
