"""Curvatures of the mean training loss: a network's Gauss-Newton operator, and the head in closed form."""
