"""The command line: options, help, exit statuses."""
