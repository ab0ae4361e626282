"""The page at `/`: conversations in a browser, for whoever has a token.

HTML comes from here, whole pages and parts of them; the script of the page asks through our own routes (`own`) and
puts the parts where they belong. Promises that what users, models and tools wrote is shown and never obeyed.
"""
