"""From a config to finished run folders: check, plan, train, record."""
