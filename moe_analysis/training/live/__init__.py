"""What a run shows while it trains: a few numbers in a file, and the panel that is drawn from them."""
