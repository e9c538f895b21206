"""Issue types: what each is (``rule.py``, plain data) and which rows break it (``finders/``)."""
