"""What a run tells of itself: lines, bars, metrics.csv, curves."""
