"""Inference with trained models: predictors, loading of runs, export."""
