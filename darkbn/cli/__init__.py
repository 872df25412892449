"""The `darkbn` command."""
