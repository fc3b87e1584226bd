"""Training scripts with a known fault, their repaired twins, and healthy scripts that look alarming."""
