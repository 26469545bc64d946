"""What past incidents teach: co-movement and similarity. No I/O."""
