"""The configs that come with the package, one module each, found by name."""
