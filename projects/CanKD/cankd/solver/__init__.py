from .polynomial_decay import PolynomialDecay
