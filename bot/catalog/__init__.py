"""What exists: services, environments, teams, people; config as code, loaded, checked and swapped whole."""
