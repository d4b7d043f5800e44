"""S3 prefixes and directories in plait."""
