"""A shopping cart: prices are in cents."""

SHIPPING = 490
FREE_SHIPPING_FROM = 5000


class Cart:
    def __init__(self):
        self.lines = []

    def add(self, price, count=1):
        self.lines.append(price * count)

    def shipping(self):
        return 0 if sum(self.lines) > FREE_SHIPPING_FROM else SHIPPING

    def total(self):
        return sum(self.lines) + self.shipping()
