"""From operations in the order of their meaning to operations on cycles."""
