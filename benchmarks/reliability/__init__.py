"""Bad inputs, kills and full disks: what the quick tests and ``make soak`` try, and what they count."""
