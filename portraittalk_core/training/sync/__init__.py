"""Training of the lip-sync network: five mouth crops against 18 rows of HuBERT."""
