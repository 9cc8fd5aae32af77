"""Networks on their way to and from other runtimes: ONNX."""
