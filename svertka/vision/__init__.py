"""Pictures in, a trained classifier out: decoding, data sets, training, evaluation, prediction."""
