"""What is made of a mask besides the mask: previews and measurements."""
