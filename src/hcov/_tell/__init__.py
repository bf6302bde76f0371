"""What is told: messages, reports, tables, pages."""
