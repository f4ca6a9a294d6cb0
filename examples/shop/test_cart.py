import unittest

from cart import Cart


class CartTest(unittest.TestCase):
    def test_small_orders_pay_shipping(self):
        cart = Cart()
        cart.add(1200, 2)
        self.assertEqual(cart.total(), 2890)

    def test_shipping_is_free_from_fifty(self):
        cart = Cart()
        cart.add(2500, 2)
        self.assertEqual(cart.total(), 5000)


if __name__ == "__main__":
    unittest.main()
