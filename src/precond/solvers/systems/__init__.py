"""Linear systems and linear least squares: drivers, certificates, automatic choice, gradients."""
