"""Release evidence: what evaluations hand to the gate.

`evidence.json` holds `questions`, `confidence` and a list of `metrics`, each with `name`, `value`, `interval`,
`base_value`, `base_interval`, `gain`, `gain_interval` and `n`.
"""

EVIDENCE = "evidence.json"
