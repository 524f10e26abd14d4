"""From predicted distances to exits (policies) and to pictures (dispatch)."""
