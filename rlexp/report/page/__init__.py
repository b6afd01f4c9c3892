"""One HTML file that shows runs to somebody who has nothing but a browser: curves that zoom, tables, films.

`build` collects what it says, `charts` draws with Bokeh, and report.html is how it looks.
"""
