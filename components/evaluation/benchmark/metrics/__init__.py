"""What answers are measured by: pure functions over text, each of which says what it counts."""
