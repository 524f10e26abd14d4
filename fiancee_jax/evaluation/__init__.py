"""Evaluation of a trained model: what its pictures cost and how good they are."""
