"""The style of the book's figures and the figures themselves."""
