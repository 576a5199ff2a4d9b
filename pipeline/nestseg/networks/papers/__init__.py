"""The networks of the papers by name: the body of each builder is its paper's table."""
