"""Models of a library by name, ``torchvision:NAME``, as `plugs.FAMILIES` lists them.

One file a family; each builds the architecture, fills it (with ``--weights``, else with the library's own weights
where they lie on this machine: nothing is ever downloaded) and brings the preprocessing that belongs to it.
"""
