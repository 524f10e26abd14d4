"""Training in phases: backbone, guides, branches, predictor."""
