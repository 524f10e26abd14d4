"""Speed, measured: each module prints JSON lines, then a table. Never asserted in tests."""
