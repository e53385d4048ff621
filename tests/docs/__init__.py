"""The pages a person reads (README.md, docs/ and the others on top): made from the code, or held to it.

settings.py    writes docs/settings.md from the models (`make docs`)
pages.py       what a page has: fenced blocks, command lines with their marks, names of files, links
sandbox.py     a small site with a service, on which the commands of the pages run
"""
