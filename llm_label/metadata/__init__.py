"""What machines read: the AIGC record and where it is carried. Measures Art. 5, GB 45438-2025 Annex E."""
