"""Style: how someone speaks, learnt as a distribution and lent to any face."""
