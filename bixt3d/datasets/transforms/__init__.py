"""What is done to clouds: normalization, augmentation, corruption, normals."""
