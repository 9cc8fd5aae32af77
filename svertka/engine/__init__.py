"""The engine: torch's tensors in and out of the kernels. It takes a call or says why it doesn't."""
