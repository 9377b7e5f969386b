"""Neural network modules: attention, encoder blocks, batch normalization, PointMLP grouping. No tasks, no data."""
