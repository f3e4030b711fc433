"""Data sets as LightningDataModules: uint8 batches to the device, keyed augmentation there."""
