"""What hides in the choice of tokens: keys, schemes, exact detection."""
