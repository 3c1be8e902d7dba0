import os
import unittest
from unittest.mock import patch

import app


class PageTest(unittest.TestCase):
    def test_the_footer_names_the_version(self):
        with patch.dict(os.environ, SERVICE_VERSION="v1.2.0"):
            _, _, text = app.front_page({})
        self.assertIn("<small>v1.2.0</small>", text)
