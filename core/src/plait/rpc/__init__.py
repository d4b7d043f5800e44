"""The wire: `plait.proto`, the code that `make proto` makes from it, and its messages from values and back."""
