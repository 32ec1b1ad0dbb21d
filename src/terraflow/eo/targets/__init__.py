"""What is learnt, behind one interface."""
