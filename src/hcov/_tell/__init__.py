"""Output for people: messages, reports, tables, pages."""
