import unittest

import app


class TableTest(unittest.TestCase):
    def test_the_page_has_a_table_of_fees(self):
        self.assertIn("<tr><td>100.00<td>2.50", app.front_page({})[2])
