"""torchvision's networks as image modules: what they are (`shapes`), the modules, and their weights."""
