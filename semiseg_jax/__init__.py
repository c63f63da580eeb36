"""Semi-supervised semantic segmentation in JAX."""
