"""One history for data that lives in many stores."""
