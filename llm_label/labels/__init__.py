"""What people see: texts, positions, and taking them out of history. Measures Art. 4, GB 45438-2025 cl. 5."""
