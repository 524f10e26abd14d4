"""Networks: the staged contract, OASIS, branches, predictor, discriminator, LPIPS."""
