"""Audits: how many labels are wrong, from few verdicts on rows that were drawn at random.

`design` says which rows are drawn, `estimate` what follows from the verdicts, `result` joins both with the database,
`telling` says it to people. Computes with numpy and never imports torch: the reading commands do without this package.
"""
