"""Programs that use the clients of others, unmodified, as their users do; each run as a process of its own."""
