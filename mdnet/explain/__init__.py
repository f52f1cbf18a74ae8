"""Why the model says what it says: maps by design, maps after the fact, and the proof of both.

`registry.explain` draws one map with any method of `registry.list_methods()`; every result is an
`explanation.Explanation`.
"""
