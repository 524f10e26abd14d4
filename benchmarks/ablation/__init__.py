"""Ablations: what each of them varies, how a variant is trained and measured, what is written."""
