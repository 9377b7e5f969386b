"""Data sets of images, for classification and semantic segmentation."""
