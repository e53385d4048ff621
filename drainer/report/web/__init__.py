"""The page: HTML, its charts, and the files a browser loads with it."""
