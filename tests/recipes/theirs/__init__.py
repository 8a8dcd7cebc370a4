"""What the "coming from" pages stand beside: one small application each, as its own documentation would write it.

Each line of a page's left column stands in one of these.
"""
