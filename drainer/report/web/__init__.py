"""The page: HTML, its charts, and the files that a browser loads with it.

Path      page.html is the frame; page.py fills it, with the tables of page_tables.py and the chart of chart.py; page.css
          and page.js belong to it, and incident/html_page.py uses the same style, chart and tables
Promise   every figure stands in the HTML itself; foreign text is escaped because it is text (text/markup.py)
Not here  who serves the page (control/web.py)

Why no template engine: of the 770 lines of page.py, page_tables.py, chart.py and incident/html_page.py some 80 make markup;
the others choose numbers and words, and would stay Python. Jinja2 3.1.6 would turn these 80 into templates that mypy cannot
check. It would add two packages of 1.4 MB, and 0.09 s of CPU to the start of the service (`import jinja2` after asyncio, the
least of 30 runs; string.Template: not measurable).
"""
