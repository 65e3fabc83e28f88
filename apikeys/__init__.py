"""Who may ask: people and their keys."""
