"""A client first on the measured command's PATH, for engines that no other door leads to."""
