"""What a week was like: measures of delivery performance from our own records and Git, as a card, a chart and JSON."""

LONGEST = 92
