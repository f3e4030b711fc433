"""Training: the one LightningModule, its settings, and a whole run from recipe to model folder."""
