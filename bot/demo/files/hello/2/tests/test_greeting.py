import unittest

import app
import greeting


class GreetingTest(unittest.TestCase):
    def test_it_greets(self):
        self.assertEqual(greeting.greet(), "Hello!")

    def test_it_greets_by_name(self):
        self.assertEqual(greeting.greet("Ada"), "Hello, Ada!")

    def test_a_name_is_text_and_not_markup(self):
        self.assertEqual(greeting.greet("<b>"), "Hello, &lt;b&gt;!")

    def test_the_page_shows_the_greeting(self):
        status, _, text = app.front_page({"name": "Ada"})
        self.assertEqual(status, 200)
        self.assertIn("Hello, Ada!", text)
