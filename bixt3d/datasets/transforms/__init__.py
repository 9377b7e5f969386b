"""Transforms of clouds: normalization, data augmentation, corruptions, normal estimation."""
