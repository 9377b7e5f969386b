"""Trained models put to use: predictors, runs, export."""
