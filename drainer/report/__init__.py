"""What we say of ourselves: one snapshot, and its faces (status, systemd, metrics, the page).

Promise   every face shows the same snapshot; a number nobody can know yet is absent (null), never guessed.
"""
