"""How far a model can look back: positions stretched, and facts found again in long texts."""
