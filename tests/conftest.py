"""What every test gets: a clean environment, and a reason where a marked test cannot run here."""
