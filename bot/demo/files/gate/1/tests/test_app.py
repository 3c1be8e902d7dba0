import unittest

import app


class AppTest(unittest.TestCase):
    def test_the_gate_is_closed_at_first(self):
        self.assertIn("closed", app.front_page({})[2])
