"""How weights move: optimizers, their rates and groups, what is frozen, the moving average."""
