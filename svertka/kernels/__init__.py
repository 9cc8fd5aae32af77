"""Kernels: what an operation computes, written as LLVM IR by Python. No torch here, and nothing runs."""
