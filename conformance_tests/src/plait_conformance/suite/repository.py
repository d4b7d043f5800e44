"""The adapter under test in a whole embedded catalog, beside the strict fake store."""
