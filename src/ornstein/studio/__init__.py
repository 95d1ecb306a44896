"""The studio: a page in the browser that shows a run at work, served from this machine; it needs the extra `studio`.

app        the routes, and the objects that they share
security   who is served: token, cookie, Host, origin, sizes
jobs       one bounded queue of work, with cancel and a limit a client
fields     what a client asks for, read with bounds
shelf      the runs, by id
views/     what each view of the page computes, one file each
static/    the page itself: plain ES modules, one style sheet
"""
