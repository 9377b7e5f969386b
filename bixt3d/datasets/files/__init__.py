"""Readers and writers of point cloud and mesh files, and conversion from and to other libraries."""
