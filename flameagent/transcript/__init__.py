"""A conversation for people: as JSON, as Markdown and as a web page; and the words for it."""
